"""Prints Table 1 of the paper from our runs: `python scripts/table1.py RUNS [RUNS ...] [--mixed]`.

RUNS: a folder of runs, as recipes/paper/table1.sh leaves it, or a table of collect_results.py (.csv). Rows are
percentiles, columns the five losses; beside them the paper's. --mixed takes runs of differing corpora, sizes, steps or
commits too, and says so.
"""

import sys
from pathlib import Path

from separation import cli
from separation.collection import load_rows
from separation.errors import InputError
from separation.table1 import Table1, report


def main() -> None:
    """Prints the table."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    paths = [Path(argument) for argument in arguments if argument != "--mixed"]
    if not paths:
        raise InputError("expected RUNS [RUNS ...] [--mixed]; --help says more")
    print(report(Table1(load_rows(paths), "--mixed" in arguments)))


if __name__ == "__main__":
    cli.entry_point(main)
