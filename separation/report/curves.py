"""What a report draws: curves over the steps, and histograms of scores, as data for the page's plotting library."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from separation.report.runs import Columns, ReportedRun
from separation.studies.run_figures import SMOOTHING_STEPS

MOST_POINTS = 12_000
"""Of all runs' curves of one kind in a chart."""
Chart = dict[str, Any]
"""`title`, `x` and `y` (axis titles), `log` (of the y axis) and `traces`, each with `run` (its number), `kind` and
points `x`, `y`, in which None is a gap; and `ends`, for those who can't see it."""


def charts(runs: Sequence[ReportedRun]) -> list[Chart]:
    """Those for which any run has something to draw."""
    mean = f"mean of {SMOOTHING_STEPS} steps; faint: each step"
    drawn = [
        _chart(f"Training loss ({mean})", "loss", _both(runs, "train/loss")),
        _chart("Validation loss", "loss", _points(runs, "valid/loss")),
        _chart("Validation SI-SDR", "SI-SDR [dB]", _points(runs, "valid/si_sdr"), log=False),
        _chart(
            f"Gradient norm ({mean}) and clipping threshold (dotted)",
            "norm",
            _both(runs, "train/grad_norm")
            + _lines(runs, [run.steps for run in runs], "train/clip_threshold", "dotted"),
        ),
        _chart("Step size", "step size", _lines(runs, [run.dynamics for run in runs], "step_size", "line")),
        *(histogram(runs, split) for split in splits(runs)),
    ]
    return [{**chart, "ends": _ends(chart)} for chart in drawn if chart["traces"]]


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


def histogram(runs: Sequence[ReportedRun], split: str) -> Chart:
    """How the mixtures' SI-SDR improvements spread, in bins that all runs share."""
    scores = {number: run.mixture_scores(split).to_numpy() for number, run in enumerate(runs)}
    together = np.concatenate([np.empty(0), *scores.values()])
    together = together[np.isfinite(together)]
    traces = []
    if len(together):
        edges = np.histogram_bin_edges(
            together, bins=round(2 * max(map(len, scores.values())) ** (1 / 3))
        )  # Rice's rule
        for number, values in scores.items():
            if len(values):
                shares = np.histogram(values, edges)[0] / len(values)
                x, y = [edges[0], *(edges[:-1] + edges[1:]) / 2, edges[-1]], [0, *shares, 0]
                traces.append({"run": number, "kind": "steps", "x": _rounded(x), "y": _rounded(y)})
    title = f"SI-SDR improvement of the mixtures, {split}"
    return {"title": title, "x": "SI-SDR improvement [dB]", "y": "share of mixtures", "log": False, "traces": traces}


def _chart(title: str, y: str, traces: list[dict[str, Any]], log: bool = True) -> Chart:
    """A chart over the steps; losses that fall below zero have no logarithm."""
    values = [value for trace in traces for value in trace["y"] if value is not None]
    return {"title": title, "x": "step", "y": y, "log": log and all(value > 0 for value in values), "traces": traces}


def _ends(chart: Chart) -> str:
    """Where the lines end, in words."""
    lines = [trace for trace in chart["traces"] if trace["kind"] in ("line", "points")]
    ends = [next((y for y in reversed(line["y"]) if y is not None), None) for line in lines]
    values = [end for end in ends if end is not None]
    if not values:
        return ""
    text = f"{min(values):g}" if min(values) == max(values) else f"{min(values):g} to {max(values):g}"
    return f"Up to step {max(line['x'][-1] for line in lines)}, where it is {text}."


def _both(runs: Sequence[ReportedRun], column: str) -> list[dict[str, Any]]:
    """Each step, faint, and the running mean."""
    means = []
    for run in runs:
        table = dict(run.steps)
        if column in table:
            finite = pd.Series(np.where(np.isfinite(table[column]), table[column], np.nan))
            table[column] = finite.rolling(SMOOTHING_STEPS, min_periods=1).mean().to_numpy()
        means.append(table)
    return _lines(runs, [run.steps for run in runs], column, "faint") + _lines(runs, means, column, "line")


def _points(runs: Sequence[ReportedRun], column: str) -> list[dict[str, Any]]:
    return _lines(runs, [run.epochs for run in runs], column, "points")


def _lines(runs: Sequence[ReportedRun], tables: Sequence[Columns], column: str, kind: str) -> list[dict[str, Any]]:
    traces = []
    for number, table in enumerate(tables):
        if column in table and np.isfinite(table[column]).any():
            kept = extremes(table[column], MOST_POINTS // len(runs))
            x = table["step"][kept].astype(int).tolist()
            traces.append({"run": number, "kind": kind, "x": x, "y": _rounded(table[column][kept])})
    return traces


def _rounded(values: Any) -> list[float | None]:
    """Four digits, which is more than a screen shows; JSON knows no NaN."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
