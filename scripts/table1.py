"""Prints Table 1 of the paper from our runs: `python scripts/table1.py RUNS [RUNS ...] [--mixed]`.

RUNS: a folder of runs, as recipes/paper/table1.sh leaves it, or a table of collect_results.py (.csv). Rows are
percentiles, columns the five losses; beside them the paper's. --mixed takes runs of differing corpora, sizes, steps or
commits too, and says so.
"""

from study import compare

from separation.app import command as cli
from separation.studies.table1 import Table1, report

if __name__ == "__main__":
    cli.entry_point(lambda: compare(__doc__, Table1, report))
