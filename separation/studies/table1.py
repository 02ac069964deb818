"""Table 1 of the paper: SI-SDR for every percentile and loss, ours beside the paper's."""

import math
from collections.abc import Iterator

import pandas as pd

from separation.errors import InputError
from separation.studies.comparing import NONE, Scores, check_alike, shared_settings
from separation.studies.intervals import Mean, mean
from separation.studies.table_formats import Report

MODELS = {
    "deep_clustering": "L_DC",
    "whitened_kmeans": "L_WKM",
    "mask_inference": "L_MI",
    "chimera": "L_MI+WKM",
    "waveform": "L_SNR",
}
PAPER = {
    0: (10.7, 11.1, 10.0, 11.2, 9.9),
    1: (10.7, 11.2, 10.3, 11.3, 10.2),
    10: (10.8, 11.0, 10.2, 11.3, 10.4),
    25: (10.7, 11.0, 9.9, 11.3, 10.3),
    50: (10.7, 11.0, 9.2, 11.2, 9.9),
    90: (10.5, 11.0, 8.7, 11.1, 9.5),
    100: (10.2, 10.8, 8.5, 10.9, 8.3),
}
"""WSJ0-2mix, 4 x 600 units, 100 epochs: rows by percentile, columns as `MODELS`; one run a cell."""
CLIPPED, UNCLIPPED = (1, 10), 100


class Table1:
    """Test SI-SDR in dB by model, percentile and seed.

    Args:
        runs: a table; runs with something else than AutoClip over the whole history are left out. One without clipping
            counts as p = 100 where there is none of its model and seed.
        mixed: take runs that differ in settings, steps or commit too.

    Raises:
        InputError: there are no such runs, or they differ and `mixed` is false, or two are of one cell and seed.

    Attributes:
        runs: those that count.
        scores: by model and percentile.
        percentiles: the paper's and ours, sorted.
    """

    def __init__(self, runs: pd.DataFrame, mixed: bool = False) -> None:
        runs = _with_unclipped(runs)
        clip = runs.reindex(columns=["clip.p", "clip.window", "clip.groups"])
        is_whole = clip["clip.p"].notna() & clip[["clip.window", "clip.groups"]].isna().all(axis=1)
        self.runs = runs[(runs["clip"] == "autoclip") & runs["model"].isin(MODELS) & is_whole]
        if not len(self.runs):
            raise InputError("table1: no finished runs with clip=autoclip; recipes/paper/table1.sh trains them")
        self._differing = check_alike(self.runs, mixed)
        self.scores = Scores(self.runs, ("model", "clip.p"))
        self.percentiles = sorted({*map(float, PAPER), *self.runs["clip.p"]})

    def missing(self) -> list[str]:
        """Runs of the paper's grid that aren't there, by name."""
        return [
            f"{model}, p = {p}, seed {seed}"
            for model in MODELS
            for p in PAPER
            for seed, score in self.scores.of(model, p).items()
            if math.isnan(score)
        ]

    def rank_correlation(self, model: str) -> float:
        """Spearman's between our column and the paper's, over the percentiles that both have."""
        column = list(MODELS).index(model)
        pairs = [(self.scores.mean(model, p).value, row[column]) for p, row in PAPER.items()]
        return float(pd.DataFrame(pairs).dropna().rank().corr(min_periods=3).iloc[0, 1])

    def gain(self, model: str, clipped: tuple[int, ...] = CLIPPED) -> pd.Series | None:
        """What clipping brings a loss over p = 100, in dB by seed, at the best of some percentiles (the series' name)
        by the mean over the seeds that they and p = 100 all have; None where there are none. Chosen on the scores that
        it is measured by, the better of two gains by chance alone."""
        scores = pd.DataFrame({p: self.scores.of(model, p) for p in (*clipped, UNCLIPPED)}).dropna()
        if not len(scores):
            return None
        best = scores[list(clipped)].mean().idxmax()
        return (scores[best] - scores[UNCLIPPED]).rename(best)

    def claim(self, clipped: tuple[int, ...] = CLIPPED) -> tuple[Mean, int] | None:
        """The paper's claim as a number: the mean over losses of the gain, with its interval over the seeds that all
        losses have; and for how many losses it is positive. None where a loss has no gain."""
        gains = [gain for model in MODELS if (gain := self.gain(model, clipped)) is not None]
        by_seed = pd.concat(gains, axis=1).dropna() if len(gains) == len(MODELS) else pd.DataFrame()
        if not len(by_seed):
            return None
        return mean(by_seed.mean(axis=1)), sum(float(gain.mean()) > 0 for gain in gains)

    def report(self) -> Report:
        """The table and what follows from it."""
        means = {name: [self.scores.mean(model, p) for p in self.percentiles] for model, name in MODELS.items()}
        columns = {}
        for name, column in means.items():
            best = max((value.value for value in column if value.num_values), default=None)
            columns[name] = [f"{'*' if value.value == best else ''}{value}" for value in column]
        for number, name in enumerate(MODELS.values()):
            columns[f"paper {name}"] = [f"{PAPER[int(p)][number]:.1f}" if p in PAPER else "" for p in self.percentiles]
        rows = pd.DataFrame(columns, index=[f"{p:g}" for p in self.percentiles])
        correlations = {name: f"{self.rank_correlation(model):.2f}" for model, name in MODELS.items()}
        rows.loc["rank correlation"] = pd.Series(correlations).reindex(rows.columns, fill_value="")
        return Report({"p": rows}, list(self._notes()))

    def _notes(self) -> Iterator[str]:
        yield shared_settings(self.runs)
        yield (
            f"SI-SDR on the test split in dB, mean +- 95% interval over {len(self.scores.seeds)} seed(s); *: the"
            " column's best"
        )
        yield from self._differing
        missing = self.missing()
        if missing:
            yield f"missing: {len(missing)} runs: {'; '.join(missing[:5])}{'; ...' if len(missing) > 5 else ''}"
        for model, name in MODELS.items():
            gain = self.gain(model)
            if gain is not None:
                yield f"{name}: p = {gain.name} over p = {UNCLIPPED}: {mean(gain)} dB"
        for percentiles, remark in (
            (CLIPPED, "; the better one was chosen by these scores, which flatters it"),
            ((10,), ""),
        ):
            claim = self.claim(percentiles)
            if claim is not None:
                names = " or ".join(map(str, percentiles))
                yield (
                    f"p = {names} over p = {UNCLIPPED}, mean over the losses: {claim[0]} dB, positive for {claim[1]} of"
                    f" {len(MODELS)}{remark}"
                )


def _with_unclipped(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs without clipping as the p = 100 that is missing."""
    runs = runs.reindex(columns=[*runs, *{"clip.p"} - set(runs)])
    cell, is_none = ["model", "seed"], runs["clip"] == NONE
    there = pd.MultiIndex.from_frame(runs.loc[runs["clip.p"] == UNCLIPPED, cell])
    runs = runs[~(is_none & pd.MultiIndex.from_frame(runs[cell]).isin(there))].copy()
    runs.loc[runs["clip"] == NONE, ["clip", "clip.p"]] = "autoclip", float(UNCLIPPED)
    return runs
