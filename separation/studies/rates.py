"""Learning rates: what is left of a strategy's gain when the training without clipping has the best one, too."""

import numpy as np
import pandas as pd

from separation.errors import InputError
from separation.studies.comparing import NONE, Scores, all_seeds, check_alike, name_strategies, shared_settings
from separation.studies.gains import UNCLIPPED
from separation.studies.intervals import Mean, mean
from separation.studies.run_table import as_text
from separation.studies.table_formats import Report

RATE = "optimizer.lr"


class Rates:
    """Scores by model, strategy and learning rate.

    Args:
        runs: a table of runs.
        mixed: runs may differ in other things than model, clipping, learning rate and seed.

    Raises:
        InputError: runs don't go together, or none has a partner without clipping.

    Attributes:
        rates: all learning rates, from the lowest.
        strategies: all strategies, no clipping first.
    """

    def __init__(self, runs: pd.DataFrame, mixed: bool = False) -> None:
        runs = name_strategies(runs, tuned=False).replace({"strategy": {UNCLIPPED: NONE}})
        self.notes = [shared_settings(runs), *check_alike(runs, mixed, [RATE])]
        self.seeds = all_seeds(runs)
        self.rates = sorted(runs[RATE].unique().tolist())
        self.models = runs["model"].unique().tolist()
        found = runs["strategy"].unique().tolist()
        if NONE not in found or len(found) < 2:
            raise InputError("learning rates are compared with and without clipping; give runs of both (clip.p=100)")
        self.strategies = [NONE, *(name for name in found if name != NONE)]
        self.scores = Scores(runs, ("model", "strategy", RATE))
        self._runs = runs

    def best(self, model: str, strategy: str) -> float:
        """The learning rate with the lowest validation loss on average over the seeds; the test isn't asked."""
        runs = self._runs[(self._runs["model"] == model) & (self._runs["strategy"] == strategy)]
        losses = runs.pivot(index=RATE, columns="seed", values="valid_loss").reindex(columns=self.seeds).dropna()
        if losses.empty:
            raise InputError(f"{model}, {strategy}: no learning rate has runs of all seeds; finish them")
        return float(losses.mean(axis=1).idxmin())

    def gain_of_best(self, model: str, strategy: str) -> Mean:
        """A strategy with its best learning rate less no clipping with its own best, seed by seed, in dB."""
        ours = self.scores.of(model, strategy, self.best(model, strategy))
        theirs = self.scores.of(model, NONE, self.best(model, NONE))
        return mean(ours - theirs)

    def good(self, model: str, strategy: str, within: float = 0.5) -> list[float]:
        """The learning rates whose mean score lies within so many dB of the highest one."""
        means = {rate: self.scores.mean(model, strategy, rate).value for rate in self.rates}
        return [rate for rate, value in means.items() if value >= np.nanmax(list(means.values())) - within]

    def report(self) -> Report:
        """A table a model: rows are learning rates, then the best against the best."""
        tables = {}
        for model in self.models:
            columns = {}
            for strategy in self.strategies:
                cells = {as_text(rate): str(self.scores.mean(model, strategy, rate)) for rate in self.rates}
                cells["best by validation"] = as_text(self.best(model, strategy))
                cells["within 0.5 dB of the highest"] = ", ".join(map(as_text, self.good(model, strategy)))
                cells["best less no clipping's best"] = (
                    "" if strategy == NONE else str(self.gain_of_best(model, strategy))
                )
                columns[strategy] = cells
            tables[f"{model}: learning rate"] = pd.DataFrame(columns)
        note = (
            f"Test SI-SDR in dB: mean +- 95% interval over the seeds {', '.join(map(str, self.seeds))}. The best"
            " learning rate of each is that of the lowest validation loss; differences are of the same seeds"
        )
        return Report(tables, [note, *filter(None, self.notes)])
