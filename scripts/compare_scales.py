"""The scale experiment as a table and a picture: `python scripts/compare_scales.py RUNS [RUNS ...] [FIGURE.png]`.

RUNS: a folder of runs, as recipes/clipping/scale.sh leaves it, or a table of collect_results.py (.csv). --mixed takes
runs of differing corpora, sizes, steps or commits too, and says so.
"""

from study import compare

from separation.app import command as cli
from separation.studies.scales import ScaleComparison, report, scale_figure

if __name__ == "__main__":
    cli.entry_point(lambda: compare(__doc__, ScaleComparison, report, scale_figure))
