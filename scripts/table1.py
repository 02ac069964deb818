"""Prints Table 1 of the paper from our runs: `python scripts/table1.py RUNS [RUNS ...] [--mixed]`.

RUNS: a folder of runs, as recipes/paper/table1.sh leaves it, or a table of collect_results.py (.csv). Rows are
percentiles, columns the five losses; beside them the paper's. --mixed takes runs of differing corpora, sizes, steps or
commits too, and says so.
"""

from study import arguments

from separation import cli
from separation.collection import load_rows
from separation.table1 import Table1, report


def main() -> None:
    """Prints the table."""
    runs, _, mixed = arguments(__doc__)
    print(report(Table1(load_rows(runs), mixed)))


if __name__ == "__main__":
    cli.entry_point(main)
