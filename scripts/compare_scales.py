"""The scale experiment as a table and a picture: `python scripts/compare_scales.py RUNS [RUNS ...] [FIGURE.png]`.

RUNS: a folder of runs, as recipes/clipping/scale.sh leaves it, or a table of collect_results.py (.csv). --mixed takes
runs of differing corpora, sizes, steps or commits too, and says so.
"""

from study import arguments

from separation import cli
from separation.atomic import replacing
from separation.collection import load_rows
from separation.scale_comparison import ScaleComparison, report, scale_figure


def main() -> None:
    """Prints the table; draws where an output is named."""
    runs, outputs, mixed = arguments(__doc__, suffix=".png")
    own = ScaleComparison(load_rows(runs), mixed)
    print(report(own))
    for output in outputs:
        with replacing(output) as temporary:
            scale_figure(own).savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    cli.entry_point(main)
