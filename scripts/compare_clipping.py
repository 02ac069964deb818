"""Clipping strategies side by side: `python scripts/compare_clipping.py RUNS [RUNS ...] [FIGURE.png] [--mixed]`.

RUNS: a folder of runs, as recipes/clipping/compare.sh leaves it, or a table of collect_results.py (.csv). A table for
each model: SI-SDR with its interval over seeds, differences from no clipping and from AutoClip seed by seed, and what
the strategy did. The figure shows the differences from no clipping. --mixed takes runs of differing corpora, sizes,
steps or commits too, and says so.
"""

from study import compare

from separation.app import command as cli
from separation.studies.strategies import Comparison, report
from separation.studies.strategy_figures import difference_figure

if __name__ == "__main__":
    cli.entry_point(lambda: compare(__doc__, Comparison, report, difference_figure))
