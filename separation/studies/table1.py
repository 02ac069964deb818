"""Table 1 of the paper: SI-SDR for every percentile and loss, ours beside the paper's."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from separation.errors import InputError
from separation.runs.summaries import table
from separation.studies.intervals import Mean, mean, rank_correlation
from separation.studies.run_table import Row, compare_settings, differing_lines

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


class Gain(NamedTuple):
    """What clipping brings one loss over p = 100, in dB."""

    p: int
    differences: dict[int, float]
    """By seed."""


class Table1:
    """Test SI-SDR in dB by model, percentile and seed.

    Args:
        rows: of runs with AutoClip over the whole history; others are left out.
        mixed: take runs that differ in corpus, size, steps or commit too.

    Raises:
        InputError: there are no such runs, or they differ and `mixed` is false, or two are of one cell and seed.
    """

    def __init__(self, rows: Sequence[Row], mixed: bool = False) -> None:
        rows = [row for row in rows if row["clip"] == "AutoClip" and row["model"] in MODELS]
        if not rows:
            raise InputError("table1: no finished runs with clip=autoclip; recipes/paper/table1.sh trains them")
        self.settings, self.differing = compare_settings(rows, mixed)
        self.cells: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
        for row in rows:
            cell, seed = self.cells[row["model"], float(row["p"])], int(row["seed"])
            if seed in cell:
                raise InputError(f"table1: two runs of {row['model']}, p = {row['p']}, seed {seed}; leave out one")
            cell[seed] = float(row["si_sdr"])
        self.seeds = sorted({seed for cell in self.cells.values() for seed in cell})
        self.percentiles = sorted({*map(float, PAPER), *(p for _, p in self.cells)})

    def mean(self, model: str, p: float) -> Mean | None:
        """Over seeds; None for a cell without runs."""
        cell = self.cells.get((model, p))
        return mean(list(cell.values())) if cell else None

    def missing(self) -> list[str]:
        """Runs of the paper's grid that aren't there, by name."""
        return [
            f"{model}, p = {p}, seed {seed}"
            for model in MODELS
            for p in PAPER
            for seed in self.seeds
            if seed not in self.cells.get((model, p), {})
        ]

    def rank_correlation(self, model: str) -> float:
        """Spearman's between our column and the paper's, over the percentiles that both have."""
        column = list(MODELS).index(model)
        pairs = [(own.value, PAPER[p][column]) for p in PAPER if (own := self.mean(model, p)) is not None]
        return rank_correlation(*zip(*pairs, strict=True)) if len(pairs) > 2 else math.nan

    def gain(self, model: str, clipped: tuple[int, ...] = CLIPPED) -> Gain | None:
        """Of clipping at the best of some percentiles, by the mean over the seeds that they and p = 100 all have; None
        where there are none. Chosen on the scores that it is measured by, the better of two gains by chance alone."""
        cells = {p: self.cells.get((model, p), {}) for p in (*clipped, UNCLIPPED)}
        seeds = sorted(set.intersection(*map(set, cells.values())))
        if not seeds:
            return None
        best = max(clipped, key=lambda p: sum(cells[p][seed] for seed in seeds))
        return Gain(best, {seed: cells[best][seed] - cells[UNCLIPPED][seed] for seed in seeds})

    def claim(self, clipped: tuple[int, ...] = CLIPPED) -> tuple[Mean, int] | None:
        """The paper's claim as a number: the mean over losses of the gain, with its interval over the seeds that all
        losses have; and for how many losses it is positive. None where a loss has no gain."""
        gains = [gain for model in MODELS if (gain := self.gain(model, clipped)) is not None]
        if len(gains) < len(MODELS):
            return None
        seeds = sorted(set.intersection(*(set(gain.differences) for gain in gains)))
        if not seeds:
            return None
        averages = [sum(gain.differences[seed] for gain in gains) / len(gains) for seed in seeds]
        positive = sum(mean(list(gain.differences.values())).value > 0 for gain in gains)
        return mean(averages), positive


def _cell(own: Table1, model: str, p: float, best: float | None) -> str:
    value = own.mean(model, p)
    if value is None:
        return "missing"
    incomplete = f" ({value.num_values} of {len(own.seeds)})" if value.num_values < len(own.seeds) else ""
    return f"{'*' if value.value == best else ''}{value}{incomplete}"


def _lines(own: Table1) -> Iterator[str]:
    rows = []
    means = {model: [own.mean(model, p) for p in own.percentiles] for model in MODELS}
    best = {model: max((mean.value for mean in column if mean), default=None) for model, column in means.items()}
    for p in own.percentiles:
        theirs = PAPER.get(int(p)) if p == int(p) else None
        cells = [_cell(own, model, p, best[model]) for model in MODELS]
        rows.append([f"{p:g}", *cells, *(f"{value:.1f}" for value in theirs or ())] + [""] * (0 if theirs else 5))
    correlations = [f"{own.rank_correlation(model):.2f}" for model in MODELS]
    rows.append(["rank correlation", *correlations, *[""] * 5])
    header = ["p", *MODELS.values(), *(f"paper {name}" for name in MODELS.values())]
    yield table(header, rows)
    yield ""
    yield ", ".join(f"{name} {value}" for name, value in own.settings.items())
    yield f"SI-SDR on the test split in dB, mean +- 95% interval over {len(own.seeds)} seed(s); *: the column's best"
    yield from differing_lines(own.differing)
    missing = own.missing()
    if missing:
        yield f"missing: {len(missing)} runs: {'; '.join(missing[:5])}{'; ...' if len(missing) > 5 else ''}"
    for model, name in MODELS.items():
        gain = own.gain(model)
        if gain is not None:
            yield f"{name}: p = {gain.p} over p = {UNCLIPPED}: {mean(list(gain.differences.values()))} dB"
    for percentiles, remark in (
        (CLIPPED, "; the better one was chosen by these scores, which flatters it"),
        ((10,), ""),
    ):
        claim = own.claim(percentiles)
        if claim is not None:
            names = " or ".join(map(str, percentiles))
            yield (
                f"p = {names} over p = {UNCLIPPED}, mean over the losses: {claim[0]} dB, positive for {claim[1]} of"
                f" {len(MODELS)}{remark}"
            )


def report(own: Table1) -> str:
    """The table and what follows from it."""
    return "\n".join(_lines(own))
