"""The scale experiment as a table and a picture: `python scripts/compare_scales.py RUNS [RUNS ...] [FIGURE.png]`.

RUNS: a folder of runs, as recipes/clipping/scale.sh leaves it, or a table of collect_results.py (.csv). --mixed takes
runs of differing corpora, sizes, steps or commits too, and says so.
"""

import sys
from pathlib import Path

from separation import cli
from separation.atomic import replacing
from separation.collection import load_rows
from separation.errors import InputError
from separation.scale_comparison import ScaleComparison, report, scale_figure


def main() -> None:
    """Prints the table; draws where an output is named."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    paths = [Path(argument) for argument in arguments if argument != "--mixed"]
    outputs = [path for path in paths if path.suffix == ".png"]
    if len(outputs) > 1 or len(outputs) == len(paths):
        raise InputError("expected RUNS [RUNS ...] [FIGURE.png] [--mixed]; --help says more")
    own = ScaleComparison(load_rows([path for path in paths if path not in outputs]), "--mixed" in arguments)
    print(report(own))
    for output in outputs:
        with replacing(output) as temporary:
            scale_figure(own).savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    cli.entry_point(main)
