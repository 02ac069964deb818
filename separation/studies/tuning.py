"""What finding a threshold costs: all runs that looked for it, beside a strategy that has none to find."""

import pandas as pd

from separation.errors import InputError
from separation.studies.comparing import THRESHOLD, check_alike, name_strategies, shared_settings
from separation.studies.run_table import as_text
from separation.studies.table_formats import Report

SCORES = {"test": "si_sdr_improvement", "test_unknown": "unknown_si_sdr_improvement"}


class Tuning:
    """Runs by model and strategy; of a strategy with several thresholds the lowest validation loss chooses one.

    Args:
        runs: a table.
        mixed: runs may differ in other things than model and clipping.

    Raises:
        InputError: there are no runs, or of several seeds, or they differ and `mixed` is false.
    """

    def __init__(self, runs: pd.DataFrame, mixed: bool = False) -> None:
        if not len(runs):
            raise InputError("no finished runs; recipes/clipping/tune.sh trains them")
        if runs["seed"].nunique() > 1:
            raise InputError("a threshold is tuned with one seed; give the runs of one")
        self._notes = [shared_settings(runs), *check_alike(runs, mixed)]
        self.runs = name_strategies(runs)

    def cost(self, model: str, strategy: str) -> dict[str, float]:
        """Runs, optimizer steps and minutes of training that a strategy took in all."""
        runs = self._of(model, strategy)
        seconds = runs["training_seconds"].sum()
        return {"runs": len(runs), "steps": int(runs["steps"].sum()), "minutes": round(seconds / 60, 1)}

    def best(self, model: str, strategy: str) -> pd.Series:
        """The run with the lowest validation loss; the test isn't asked."""
        runs = self._of(model, strategy)
        return runs.loc[runs["valid_loss"].idxmin()]

    def _of(self, model: str, strategy: str) -> pd.DataFrame:
        return self.runs[(self.runs["model"] == model) & (self.runs["strategy"] == strategy)]

    def report(self) -> Report:
        """A table for each model, and what the numbers are of."""
        tables = {}
        for model, runs in self.runs.groupby("model", sort=False):
            tables[str(model)] = pd.DataFrame.from_dict(
                {name: self._row(str(model), name) for name in runs["strategy"].unique()}, orient="index"
            )
        note = (
            "runs, steps and minutes: of all runs of a strategy; the rest: of the one with the lowest validation loss."
            " Scores are SI-SDR improvements in dB, of one seed: no evidence for either strategy"
        )
        return Report(tables, [note, *filter(None, self._notes)])

    def _row(self, model: str, strategy: str) -> dict[str, str]:
        best = self.best(model, strategy)
        return {
            **{name: as_text(value) for name, value in self.cost(model, strategy).items()},
            "threshold": f"{best[THRESHOLD]:.3g}" if pd.notna(best.get(THRESHOLD)) else "",
            "validation loss": f"{best['valid_loss']:.5g}",
            **{split: f"{best[column]:.2f}" for split, column in SCORES.items() if pd.notna(best.get(column))},
        }
