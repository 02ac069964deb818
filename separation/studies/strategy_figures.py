"""Clipping strategies side by side, as figures."""

from collections.abc import Sequence
from statistics import fmean

import matplotlib
import numpy as np

matplotlib.use("Agg")  # figures are files here, on machines without a screen too

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from separation.studies.conditions import Conditions
from separation.studies.run_table import Row
from separation.studies.strategies import AUTOCLIP, NONE, Comparison


def difference_figure(own: Comparison, other: str = NONE) -> Figure:
    """Every strategy's SI-SDR less another's with the same seed: the mean, its 95% interval, and each seed."""
    names = [name for name in own.strategies if name != other]
    size = (1.5 + 4 * len(own.models), 1.2 + 0.28 * len(names))
    figure, axes = plt.subplots(1, len(own.models), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis, model in zip(axes[0], own.models, strict=True):
        for place, name in enumerate(names):
            _draw_difference(axis, place, own, name, model, other)
        _name_differences(axis, model, other)
    axes[0][0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0][0].invert_yaxis()
    return figure


def conditions_figure(own: Conditions, strategy: str = AUTOCLIP, other: str = NONE) -> Figure:
    """One strategy's SI-SDR less another's with the same seed under every condition, as in `difference_figure`."""
    count = max(len(own.of(model)) for model in own.models)
    size = (1 + 6 * len(own.models), 1.2 + 0.3 * count)
    figure, axes = plt.subplots(1, len(own.models), figsize=size, squeeze=False, layout="constrained")
    for axis, model in zip(axes[0], own.models, strict=True):
        found = own.of(model)
        for place, comparison in enumerate(found.values()):
            _draw_difference(axis, place, comparison, strategy, model, other)
        _name_differences(axis, f"{model}: {strategy}", other)
        axis.set_yticks(range(len(found)), map(own.title, found), fontsize=8)
        axis.invert_yaxis()
    return figure


def _draw_difference(axis: Axes, place: int, own: Comparison, name: str, model: str, other: str) -> None:
    """The mean with its interval, and a tick for each seed."""
    difference = own.difference(name, model, other)
    if difference is None:
        return
    error = None if np.isnan(difference.half_width) else difference.half_width
    axis.errorbar(difference.value, place, xerr=error, marker="o", color="C0", capsize=3)
    theirs = own.scores(other, model)
    seeds = [score - theirs[seed] for seed, score in own.scores(name, model).items() if seed in theirs]
    axis.plot(seeds, [place] * len(seeds), "|", color="0.4", markersize=9)


def _name_differences(axis: Axes, title: str, other: str) -> None:
    axis.axvline(0, color="gray", linewidth=0.8)
    axis.set_title(title.replace("_", " "), fontsize=10)
    axis.set_xlabel(f"test SI-SDR beside {other} [dB]")
    axis.grid(axis="x", alpha=0.3)


def curves_figure(own: Comparison, curves: Sequence[Row]) -> Figure:
    """Over the steps, means over seeds: above, the training loss; below, the share of steps that are clipped.

    Args:
        curves: rows of `separation.studies.curves`; of a grid, the chosen value's are drawn.
    """
    found = {(row["model"], row["clip"], row["p"], row["seed"], int(row["step"])): row for row in curves}
    names = own.strategies
    size = (3.5 + 4.5 * len(own.models), 4 + 0.25 * len(names))
    figure, axes = plt.subplots(2, len(own.models), figsize=size, squeeze=False, layout="constrained")
    for (top, bottom), model in zip(axes.T, own.models, strict=True):
        drawn = {
            name: {(model, row["clip"], row["p"], row["seed"]) for row in own.cells.get((name, model), {}).values()}
            for name in names
        }
        steps = sorted({key[-1] for key in found if any(key[:-1] in keys for keys in drawn.values())})
        shares = np.full((len(names), len(steps)), np.nan)
        for place, (name, keys) in enumerate(drawn.items()):
            windows = [[found[*key, step] for key in keys if (*key, step) in found] for step in steps]
            losses = [fmean(float(row["loss"]) for row in rows) if rows else np.nan for rows in windows]
            style = {"color": "black", "linewidth": 2} if name == NONE else {"color": plt.get_cmap("tab20")(place % 20)}
            top.plot(steps, losses, label=name, **style)
            shares[place] = [
                fmean(float(row["clipped_fraction"]) for row in rows) if rows else np.nan for rows in windows
            ]
        image = bottom.imshow(100 * shares, aspect="auto", vmin=0, vmax=100, cmap="viridis", interpolation="nearest")
        top.set_title(model.replace("_", " "), fontsize=10)
        top.set_ylabel("training loss")
        top.set_xlabel("step")
        ticks = range(0, len(steps), max(1, len(steps) // 8))
        bottom.set_xticks(ticks, [str(steps[tick]) for tick in ticks], fontsize=7)
        bottom.set_xlabel("step")
        bottom.set_yticks(range(len(names)), names if model == own.models[0] else [], fontsize=8)
    axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.colorbar(image, ax=axes[1], label="steps clipped [%]")
    return figure
