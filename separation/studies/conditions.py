"""Where clipping pays: strategies beside no clipping under several training conditions."""

import math
from typing import Any

import pandas as pd

from separation.errors import InputError
from separation.studies.comparing import (
    NONE,
    SHOWN,
    Scores,
    all_seeds,
    check_alike,
    choose_thresholds,
    differences,
    name_strategies,
    shared_settings,
    short,
)
from separation.studies.intervals import Mean
from separation.studies.run_table import DIGEST, as_text
from separation.studies.table_formats import Report


class Conditions:
    """Runs by training condition: all that runs in one table share, as steps, optimizer and length of excerpts.

    Args:
        runs: a table.
        mixed: take runs of one condition that differ in their commits too.

    Raises:
        InputError: there are no runs, or those of a condition differ and `mixed` is false, or two are of one cell and
            seed.

    Attributes:
        titles: of the conditions, sorted by their settings' values.
        models: in the order of the rows.
        scores: by model, condition and strategy.
    """

    def __init__(self, runs: pd.DataFrame, mixed: bool = False) -> None:
        if not len(runs):
            raise InputError("no finished runs; recipes/paper/conditions.sh trains them")
        names = _telling_apart(runs)
        runs = name_strategies(runs)
        groups = dict(iter(runs.groupby(names, dropna=False, sort=False))) if names else {(): runs}
        self.titles: list[str] = []
        parts, differing = [], []
        for key in sorted(groups, key=lambda key: list(map(_order, key))):
            title = ", ".join(f"{short(name)} {as_text(value)}" for name, value in zip(names, key, strict=True))
            differing += [f"{title}: {line}" for line in check_alike(groups[key], mixed)]
            self.titles.append(title)
            parts.append(choose_thresholds(groups[key])[0].assign(condition=title))
        self.models = runs["model"].unique().tolist()
        self.scores = Scores(pd.concat(parts), ("model", "condition", "strategy"), all_seeds(runs))
        commits = ", ".join(sorted(runs["commit"].unique()))
        self._notes = [
            f"{shared_settings(runs.drop(columns='commit'))}, commit {commits}",
            f"SI-SDR on the test split in dB, mean +- 95% interval over seeds {', '.join(map(str, self.scores.seeds))};"
            " differences are of runs with the same seed. Conditions may have test mixtures of their own: compare these"
            " differences",
            *differing,
        ]

    def of(self, model: str) -> list[str]:
        """Titles of the conditions under which a model was trained."""
        trained = {condition for name, condition, _ in self.scores.cells if name == model}
        return [title for title in self.titles if title in trained]

    def gain(self, strategy: str, model: str, condition: str, other: str = NONE) -> Mean:
        """Mean of the differences in dB from another strategy with the same seed."""
        return self.scores.gain((model, condition, strategy), (model, condition, other))

    def report(self) -> Report:
        """A table for each model, and what the numbers are of."""
        return Report({model: self._table(model) for model in self.models}, self._notes)

    def _table(self, model: str) -> pd.DataFrame:
        conditions = self.of(model)
        cells = sorted((key for key in self.scores.cells if key[0] == model), key=lambda key: conditions.index(key[1]))
        strategies = list(dict.fromkeys(strategy for *_, strategy in cells))
        rows = {}
        for condition in conditions:
            means = {name: str(self.scores.mean(model, condition, name)) for name in strategies}
            gains = {name: str(self.gain(name, model, condition)) for name in strategies if name != NONE}
            rows[condition] = means | {f"{name} over {NONE}": gain for name, gain in gains.items()}
        return pd.DataFrame.from_dict(rows, orient="index")


def _telling_apart(runs: pd.DataFrame) -> list[str]:
    """The settings in which conditions differ, less those that follow from others: momentum comes with sgd."""
    differing = differences(runs, apart=("commit", DIGEST))
    names: list[str] = []
    for name in dict.fromkeys([*SHOWN, *(label.partition(" of ")[0] for label in differing)]):
        of_model = ["model", *names]
        if name in runs and name != "commit":
            counts = [runs.groupby(columns, dropna=False).ngroups for columns in (of_model, [*of_model, name])]
            if counts[0] < counts[1]:
                names.append(name)
    return names


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers by their size and before texts; what a run doesn't have comes first."""
    return isinstance(value, str), -math.inf if pd.isna(value) else value
