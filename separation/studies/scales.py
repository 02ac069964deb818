"""The scale experiment: what clipping strategies make of a loss in other units."""

import pandas as pd

from separation.errors import InputError
from separation.studies.comparing import SCALES, Scores, check_alike, name_strategies, shared_settings
from separation.studies.intervals import Mean
from separation.studies.table_formats import Report

AS_IT_IS = "as it is"


class Scales:
    """Runs of one model by strategy, scale and seed; each threshold of a fixed strategy is one of its own.

    Args:
        runs: a table.
        mixed: take runs that differ in settings, steps or commit too.

    Raises:
        InputError: there are no runs, or of several models, or they differ and `mixed` is false, or two are of one
            cell and seed.

    Attributes:
        strategies: names.
        scales: what each makes of the gradient of a loss that is linear in magnitudes, by title, sorted.
        scores: by strategy and scale.
    """

    def __init__(self, runs: pd.DataFrame, mixed: bool = False) -> None:
        models = sorted(runs["model"].unique())
        if len(models) != 1:
            found = f"runs of {', '.join(models)}; choose one" if models else "no finished runs"
            raise InputError(f"expected runs of one model, found {found}: recipes/clipping/scale.sh trains them")
        [self.model] = models
        runs = name_strategies(runs, tuned=False)
        scales = runs.reindex(columns=list(SCALES)).fillna(1.0)  # which the first runs didn't have
        factors = dict(zip(map(_title, *scales.to_numpy().T), scales.prod(axis=1), strict=True))
        self.scales = dict(sorted(factors.items(), key=lambda item: item[1]))
        self.strategies = runs["strategy"].unique().tolist()
        self.scores = Scores(runs.assign(scale=list(map(_title, *scales.to_numpy().T))), ("strategy", "scale"))
        remark = "SI-SDR on the test split in dB, mean +- 95% interval over {} seed(s); changes seed by seed"
        differing = check_alike(runs, mixed, apart=SCALES)
        self._notes = [shared_settings(runs), remark.format(len(self.scores.seeds)), *differing]

    def change(self, strategy: str, scale: str) -> Mean:
        """Mean of what a scale changes in dB, seed by seed."""
        return self.scores.gain((strategy, scale), (strategy, AS_IT_IS))

    def clipped(self, strategy: str, scale: str) -> float | None:
        """Mean share of the steps that were clipped; None where there are no runs."""
        return self.scores.column("clipped_fraction", strategy, scale)

    def report(self) -> Report:
        """SI-SDR by strategy and scale, the changes from scale 1, and how many steps were clipped."""
        rows = {}
        for name in self.strategies:
            for scale in self.scales:
                clipped = self.clipped(name, scale)
                rows[f"{name}, {scale}"] = {
                    "SI-SDR [dB]": str(self.scores.mean(name, scale)),
                    "change": "" if scale == AS_IT_IS else str(self.change(name, scale)),
                    "clipped": "" if clipped is None else f"{clipped:.0%}",
                }
        return Report({self.model: pd.DataFrame.from_dict(rows, orient="index")}, self._notes)


def _title(loss: float, magnitudes: float) -> str:
    """As in "loss x 0.0001"."""
    parts = [f"{name} x {value:g}" for name, value in (("loss", loss), ("magnitudes", magnitudes)) if value != 1]
    return ", ".join(parts) or AS_IT_IS
