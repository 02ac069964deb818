"""Scores a trained run or an oracle; see separation/app/evaluate.py."""

from separation.app.evaluate import main

if __name__ == "__main__":
    main()
