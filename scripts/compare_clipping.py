"""Clipping strategies side by side: `python scripts/compare_clipping.py RUNS [RUNS ...] [--mixed]`.

RUNS: a folder of runs, as recipes/clipping/compare.sh leaves it, or a table of collect_results.py (.csv). A table for
each model: SI-SDR with its interval over seeds, differences from no clipping and from AutoClip seed by seed, and what
the strategy did and cost. --mixed takes runs of differing corpora, sizes, steps or commits too, and says so.
"""

from study import arguments

from separation import cli
from separation.collection import load_rows
from separation.comparison import Comparison, report


def main() -> None:
    """Prints the tables."""
    runs, _, mixed = arguments(__doc__)
    print(report(Comparison(load_rows(runs), mixed)))


if __name__ == "__main__":
    cli.entry_point(main)
