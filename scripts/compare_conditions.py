"""Clipping under several training conditions: `python scripts/compare_conditions.py RUNS [RUNS ...] [FIGURE.png]`.

RUNS: a folder of runs, as recipes/paper/conditions.sh leaves it, or a table of collect_results.py (.csv). A table for
each model: SI-SDR under each condition and the differences from no clipping, seed by seed. The figure shows those of
AutoClip with p = 10. --mixed takes runs of one condition that differ in other settings or their commits too.
"""

from study import compare

from separation.app import command as cli
from separation.studies.conditions import Conditions, report
from separation.studies.strategy_figures import conditions_figure

if __name__ == "__main__":
    cli.entry_point(lambda: compare(__doc__, Conditions, report, conditions_figure))
