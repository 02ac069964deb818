"""Trains a separator and scores it; see separation/app/train.py."""

from separation.app.train import main

if __name__ == "__main__":
    main()
