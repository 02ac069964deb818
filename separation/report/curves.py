"""What a report draws: curves over the steps, and histograms of scores, as data for the page's plotting library."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from separation.report.runs import Columns, ReportedRun, Variant
from separation.studies.run_figures import SMOOTHING_STEPS

MOST_POINTS = 12_000
"""Of all runs' curves of one kind in a chart."""
FEWEST_IN_BAND = 3
"""Seeds; a band of two would show what their lines show."""
Chart = dict[str, Any]
"""`title`, `x` and `y` (axis titles), `log` (of the y axis) and `traces`, each with `variant` (its number), `name`,
`kind` and points `x`, `y`, in which None is a gap; `single`: all lie at one step, so there is nothing to draw; `ends`:
where the lines end, in words."""


def charts(runs: Sequence[ReportedRun], variants: Sequence[Variant]) -> list[Chart]:
    """Those for which any run has something to show. Of seeds each is faint, and their mean is the line."""
    seeded = len(variants) < len(runs)
    mean = f"mean of {SMOOTHING_STEPS} steps; faint: each {'seed' if seeded else 'step'}"
    most = MOST_POINTS // len(runs)

    def lines(curves: Sequence[pd.Series], kind: str, seeds: bool = True) -> list[dict[str, Any]]:
        return [
            {"variant": number, **trace}
            for number, variant in enumerate(variants)
            for trace in _of_variant(
                variant, {runs[run].name: curves[run] for run in variant.numbers}, kind, most, seeds
            )
        ]

    def of_steps(column: str) -> list[dict[str, Any]]:
        each = [_curve(run.steps, column) for run in runs]
        faint = [] if seeded else lines(each, "faint")
        return faint + lines([curve.rolling(SMOOTHING_STEPS, min_periods=1).mean() for curve in each], "line")

    def points(column: str) -> list[dict[str, Any]]:
        return lines([_curve(run.epochs, column) for run in runs], "points")

    thresholds = lines([_curve(run.steps, "train/clip_threshold") for run in runs], "dotted", seeds=False)
    norm = f"Gradient norm ({mean}) and clipping threshold (dotted)"
    drawn = [
        _chart(f"Training loss ({mean})", "loss", of_steps("train/loss")),
        _chart("Validation loss", "loss", points("valid/loss")),
        _chart("Validation SI-SDR", "SI-SDR [dB]", points("valid/si_sdr"), log=False),
        _chart(norm, "norm", of_steps("train/grad_norm") + thresholds),
        _chart("Step size", "step size", lines([_curve(run.dynamics, "step_size") for run in runs], "line")),
        *(histogram(runs, variants, split) for split in splits(runs)),
    ]
    return [{**chart, **_ends(chart)} for chart in drawn if chart["traces"]]


def splits(runs: Sequence[ReportedRun]) -> list[str]:
    """Test splits that any run was scored on."""
    return list(dict.fromkeys(split for run in runs for split in (*run.splits, *run.scores["split"].unique())))


def extremes(values: np.ndarray, count: int) -> np.ndarray:
    """Which of many values to draw so that no spike is lost: of each of `count` // 2 stretches the least and the
    greatest, beside the first and the last of all; where values are NaN or infinite, there is at least one of them.

    Args:
        values: shape (step,).

    Returns:
        Their indices, rising; all where there are no more than `count`.
    """
    if len(values) <= count:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), max(1, count // 2)):
        finite = np.isfinite(values[stretch])
        kept |= {int(index) for index in stretch[~finite][:1]}
        if finite.any():
            inside = stretch[finite]
            kept |= {int(inside[values[inside].argmin()]), int(inside[values[inside].argmax()])}
    return np.array(sorted(kept))


def histogram(runs: Sequence[ReportedRun], variants: Sequence[Variant], split: str) -> Chart:
    """How the mixtures' SI-SDR improvements spread, those of all seeds together, in bins that all variants share."""
    scores = [
        np.concatenate([runs[run].mixture_scores(split).to_numpy() for run in variant.numbers]) for variant in variants
    ]
    scores = [values[np.isfinite(values)] for values in scores]
    together = np.concatenate(scores)
    traces = []
    if len(together):
        edges = np.histogram_bin_edges(together, bins=round(2 * max(map(len, scores)) ** (1 / 3)))  # Rice's rule
        for number, (variant, values) in enumerate(zip(variants, scores, strict=True)):
            if len(values):
                shares = np.histogram(values, edges)[0] / len(values)
                x, y = [edges[0], *(edges[:-1] + edges[1:]) / 2, edges[-1]], [0, *shares, 0]
                points = {"x": _rounded(x), "y": _rounded(y)}
                traces.append({"variant": number, "name": variant.name, "kind": "steps", **points})
    title = f"SI-SDR improvement of the mixtures, {split}"
    return {"title": title, "x": "SI-SDR improvement [dB]", "y": "share of mixtures", "log": False, "traces": traces}


def _chart(title: str, y: str, traces: list[dict[str, Any]], log: bool = True) -> Chart:
    """A chart over the steps; losses that fall below zero have no logarithm."""
    values = [value for trace in traces for value in trace["y"] if value is not None]
    return {"title": title, "x": "step", "y": y, "log": log and all(value > 0 for value in values), "traces": traces}


def _ends(chart: Chart) -> dict[str, Any]:
    """`single` and `ends` of a chart."""
    lines = [trace for trace in chart["traces"] if trace["kind"] in ("line", "points")]
    ends = [next((y for y in reversed(line["y"]) if y is not None), None) for line in lines]
    values = [end for end in ends if end is not None]
    if not values:
        return {"single": False, "ends": ""}
    text = f"{min(values):g}" if min(values) == max(values) else f"{min(values):g} to {max(values):g}"
    steps = {step for trace in chart["traces"] for step in trace["x"]}
    if len(steps) == 1:
        return {"single": True, "ends": f"At step {steps.pop()} alone: {text}."}
    return {"single": False, "ends": f"Up to step {max(line['x'][-1] for line in lines)}, where it is {text}."}


def _curve(table: Columns, column: str) -> pd.Series:
    """A column's finite values over the steps, NaN elsewhere; empty where there are none."""
    values = table.get(column, np.empty(0))
    finite = np.isfinite(values)
    if not finite.any():
        return pd.Series(dtype=float)
    return pd.Series(np.where(finite, values, np.nan), table["step"].astype(int))


def _of_variant(
    variant: Variant, curves: dict[str, pd.Series], kind: str, most: int, seeds: bool
) -> Iterator[dict[str, Any]]:
    """Traces of a variant's curves, which are by the runs' names: of several the mean over the steps that all have, and
    where they are many the band from the least to the greatest; with `seeds` also each one."""
    present = {name: curve for name, curve in curves.items() if len(curve)}
    if len(present) < 2:
        for name, curve in present.items():
            yield _trace(name, kind, curve, most)
        return
    table = pd.concat(present.values(), axis=1, join="inner")
    if seeds:
        low, high = table.min(axis=1), table.max(axis=1)
        if len(present) >= FEWEST_IN_BAND:
            kept = np.union1d(extremes(low.to_numpy(), most), extremes(high.to_numpy(), most))
            low, high = (bound.iloc[kept].dropna() for bound in (low, high))
            yield _trace(variant.name, "band", pd.concat([low, high[::-1]]), 4 * most)
        for name, curve in present.items():
            yield _trace(name, "seed", curve, most)
    if len(table):
        yield _trace(f"mean of {variant.name}", kind, table.mean(axis=1, skipna=False), most)


def _trace(name: str, kind: str, curve: pd.Series, most: int) -> dict[str, Any]:
    kept = curve.iloc[extremes(curve.to_numpy(), most)]
    return {"name": name, "kind": kind, "x": kept.index.tolist(), "y": _rounded(kept)}


def _rounded(values: Any) -> list[float | None]:
    """Four digits, which is more than a screen shows; JSON knows no NaN."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
