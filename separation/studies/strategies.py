"""Clipping strategies side by side: SI-SDR over seeds, differences seed by seed, and what each did."""

import math
from collections.abc import Iterator

import pandas as pd

from separation.errors import InputError
from separation.studies.comparing import (
    AUTOCLIP,
    NONE,
    THRESHOLD,
    Scores,
    all_seeds,
    check_alike,
    choose_thresholds,
    name_strategies,
    shared_settings,
    short,
)
from separation.studies.intervals import Mean
from separation.studies.run_table import as_text
from separation.studies.table_formats import Report


class Strategies:
    """Runs by model, strategy and seed.

    Args:
        runs: a table.
        mixed: take runs that differ in settings, steps or commit too.

    Raises:
        InputError: there are no runs, or they differ and `mixed` is false, or two are of one cell and seed.

    Attributes:
        runs: those that count, with their `strategy`: of a grid of thresholds only the chosen one's.
        models, strategies: in the order of the rows.
        scores: by model and strategy.
        grids: see `choose_thresholds`.
    """

    def __init__(self, runs: pd.DataFrame, mixed: bool = False) -> None:
        if not len(runs):
            raise InputError("no finished runs; recipes/clipping/compare.sh trains them")
        self._differing = check_alike(runs, mixed)
        named = name_strategies(runs)
        self.runs, self.grids = choose_thresholds(named)
        self.scores = Scores(self.runs, ("model", "strategy"), all_seeds(runs))
        self.models, self.strategies = (named[name].unique().tolist() for name in ("model", "strategy"))

    def gain(self, strategy: str, model: str, other: str = NONE) -> Mean:
        """Mean of the differences in dB from another strategy with the same seed."""
        return self.scores.gain((model, strategy), (model, other))

    def report(self) -> Report:
        """A table for each model, and what the numbers are of."""
        remarks = [
            f"SI-SDR on the test split, mean +- 95% interval over {len(self.scores.seeds)} seed(s); differences are of"
            " runs with the same seed",
            "clipped: steps in which the whole norm became smaller, where one tensor or entry suffices; adagn and"
            " block_normalized set norms in every step",
            "step size: mean and variance over training after its first quarter",
        ]
        tables = {model: self._table(model) for model in self.models}
        return Report(tables, [*self._grid_notes(), shared_settings(self.runs), *remarks, *self._differing])

    def _table(self, model: str) -> pd.DataFrame:
        means = {name: self.scores.mean(model, name) for name in self.strategies}
        rows = {}
        for name in sorted(means, key=lambda name: -means[name].value if means[name].num_values else math.inf):
            grid = self.grids.get((model, name))
            rows[f"{name} {short(THRESHOLD)}={as_text(grid[1])}" if grid else name] = {
                "SI-SDR [dB]": str(means[name]),
                f"over {NONE}": str(self.gain(name, model)) if name != NONE else "",
                f"over {AUTOCLIP}": str(self.gain(name, model, AUTOCLIP)) if name != AUTOCLIP else "",
                **{
                    heading: "" if (value := self.scores.column(column, model, name)) is None else f"{value:{form}}"
                    for heading, (column, form) in COLUMNS.items()
                },
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def _grid_notes(self) -> Iterator[str]:
        """What all thresholds of a grid scored, and which one counts."""
        for (model, strategy), (scores, chosen) in self.grids.items():
            values = sorted(value for *_, value in scores.cells)
            means = "; ".join(f"{as_text(value)}: {scores.mean(model, strategy, value)}" for value in values)
            edge = ", the grid's edge" if len(values) > 1 and chosen in (values[0], values[-1]) else ""
            yield (
                f"{model}, {strategy} by {short(THRESHOLD)}: {means} (the lowest validation loss:"
                f" {as_text(chosen)}{edge})"
            )


COLUMNS = {
    "clipped": ("clipped_fraction", ".0%"),
    "skipped": ("skipped_steps", "g"),
    "step size": ("step_size_mean", ".2g"),
    "its variance": ("step_size_variance", ".2g"),
}
"""What a strategy did, by heading: a column of the runs, and how it is written."""
