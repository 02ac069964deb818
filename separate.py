"""Separates recordings with a trained run; see separation/app/separate.py."""

from separation.app.separate import main

if __name__ == "__main__":
    main()
