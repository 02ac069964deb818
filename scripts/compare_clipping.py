"""Clipping strategies side by side: `python scripts/compare_clipping.py RUNS [RUNS ...] [--mixed]`.

RUNS: a folder of runs, as recipes/clipping/compare.sh leaves it, or a table of collect_results.py (.csv). A table for
each model: SI-SDR with its interval over seeds, differences from no clipping and from AutoClip seed by seed, and what
the strategy did and cost. --mixed takes runs of differing corpora, sizes, steps or commits too, and says so.
"""

import sys
from pathlib import Path

from separation import cli
from separation.collection import load_rows
from separation.comparison import Comparison, report
from separation.errors import InputError


def main() -> None:
    """Prints the tables."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    paths = [Path(argument) for argument in arguments if argument != "--mixed"]
    if not paths:
        raise InputError("expected RUNS [RUNS ...] [--mixed]; --help says more")
    print(report(Comparison(load_rows(paths), "--mixed" in arguments)))


if __name__ == "__main__":
    cli.entry_point(main)
