"""The studies' tables as figures."""

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from separation.errors import InputError
from separation.studies.compare import METRICS, Comparison
from separation.studies.comparing import AUTOCLIP, NONE, is_clipping
from separation.studies.conditions import Conditions
from separation.studies.drawing import line_style
from separation.studies.gains import GAINS, Gains
from separation.studies.intervals import Mean, mean
from separation.studies.paired_mixtures import PairedMixtures
from separation.studies.rates import Rates
from separation.studies.run_table import as_text
from separation.studies.scales import Scales
from separation.studies.strategies import Strategies
from separation.studies.table1 import MODELS, PAPER, UNCLIPPED, Table1


def table1_figure(study: Table1) -> Figure:
    """Every loss over the percentile, ours and the paper's: each less its own score at p = 100 with the same seed."""
    figure, axes = plt.subplots(1, len(MODELS), figsize=(14, 3.2), sharey=True, layout="constrained")
    for column, (axis, (model, name)) in enumerate(zip(axes, MODELS.items(), strict=True)):
        ours = [study.scores.gain((model, p), (model, UNCLIPPED)) for p in PAPER]
        _draw_means(axis, range(len(PAPER)), ours, label="ours")
        theirs = [row[column] - PAPER[UNCLIPPED][column] for row in PAPER.values()]
        axis.plot(theirs, marker="s", linestyle="--", color="C1", label="paper")
        axis.axhline(0, color="gray", linewidth=0.8)
        axis.set_title(f"{name} ({model.replace('_', ' ')})", fontsize=9)
        axis.set_xticks(range(len(PAPER)), [str(p) for p in PAPER])
        axis.set_xlabel("percentile p")
    axes[0].set_ylabel(f"test SI-SDR beside p = {UNCLIPPED} [dB]")
    axes[0].legend(fontsize=8)
    return figure


def gains_figure(study: Gains) -> Figure:
    """What a strategy gains in validation SI-SDR, and saves in validation loss, over the steps: a line a model with its
    95% interval, and each seed faint."""
    figure, axes = plt.subplots(1, len(GAINS), figsize=(12, 4.2), layout="constrained")
    for axis, (quantity, label) in zip(axes, GAINS.items(), strict=True):
        pairs = [key[1:] for key in study.of if key[0] == quantity]
        for number, (model, strategy) in enumerate(pairs):
            table, means = study.of[quantity, model, strategy], study.means(quantity, model, strategy)
            name = model.replace("_", " ") + (f", {strategy}" if len({pair[1] for pair in pairs}) > 1 else "")
            middle = np.array([each.value for each in means.values()])
            width = np.array([each.half_width for each in means.values()])
            axis.plot(table.index, table, color=f"C{number}", linewidth=0.7, alpha=0.35)
            axis.fill_between(table.index, middle - width, middle + width, color=f"C{number}", alpha=0.15, linewidth=0)
            axis.plot(table.index, middle, color=f"C{number}", linewidth=2, label=name)
        axis.axhline(0, color="gray", linewidth=0.8)
        axis.set_xlabel("training steps")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_title("SI-SDR on validation mixtures, beside no clipping")
    axes[1].set_title("Validation loss, beside no clipping (lower is better)")
    axes[0].legend(fontsize=8)
    return figure


def mixtures_figure(study: PairedMixtures) -> Figure:
    """The mean difference of every model and strategy with its interval over seeds and mixtures, and each seed's."""
    splits = list(dict.fromkeys(key[0] for key in study.of))
    rows = list(dict.fromkeys(key[1:] for key in study.of))
    size = (2.5 + 4.5 * len(splits), 1.4 + 0.35 * len(rows))
    figure, axes = plt.subplots(
        1, len(splits), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axis, split in zip(axes[0], splits, strict=True):
        for place, row in enumerate(rows):
            if (split, *row) in study.of:
                value, low, high = study.interval(split, *row)
                seeds = np.nanmean(study.of[split, *row], axis=1)
                axis.errorbar(value, place, xerr=[[value - low], [high - value]], marker="o", color="C0", capsize=3)
                axis.plot(seeds, [place] * len(seeds), "|", color="0.4", markersize=9)
        _name_differences(axis, split, NONE)
    axes[0][0].set_yticks(range(len(rows)), [", ".join(row).replace("_", " ") for row in rows], fontsize=8)
    axes[0][0].invert_yaxis()
    return figure


def comparison_figure(study: Comparison) -> Figure:
    """A point a mixture, B's score over A's: above the diagonal B is better."""
    splits = dict(list(study.scores.groupby("split", sort=False)))
    pairs = sorted(study.scores["pair"].unique())
    figure, axes = plt.subplots(1, len(splits), figsize=(4.6 * len(splits), 4.7), squeeze=False, layout="constrained")
    both = study.scores[["a", "b"]].to_numpy()
    margin = 0.05 * (np.ptp(both) or 1.0)
    limits = both.min() - margin, both.max() + margin
    for axis, (split, rows) in zip(axes[0], splits.items(), strict=True):
        axis.plot(limits, limits, color="gray", linewidth=0.8)
        for number, pair in enumerate(pairs):
            of_pair = rows[rows["pair"] == pair]
            axis.plot(of_pair["a"], of_pair["b"], "o", color=f"C{number}", markersize=4, alpha=0.6, label=pair)
        axis.set(xlim=limits, ylim=limits, aspect="equal")
        axis.set_title(f"{split}: {len(rows)} mixtures", fontsize=10)
        labels = (
            textwrap.fill(f"{METRICS[study.metric]} of {letter}: {name}", 60)
            for letter, name in zip("AB", study.names, strict=True)
        )
        axis.set_xlabel(next(labels), fontsize=9)
        axis.set_ylabel(next(labels), fontsize=9)
        axis.grid(alpha=0.3)
    if any(pairs):
        axes[0][-1].legend(fontsize=8, loc="lower right")
    return figure


def rates_figure(study: Rates) -> Figure:
    """Test SI-SDR over the learning rate, a line for each strategy, with 95% intervals over the seeds."""
    figure, axes = plt.subplots(
        1, len(study.models), figsize=(1.5 + 4.5 * len(study.models), 3.8), squeeze=False, layout="constrained"
    )
    for axis, model in zip(axes[0], study.models, strict=True):
        for number, strategy in enumerate(study.strategies):
            places = [rate * 1.03 ** (number - len(study.strategies) / 2) for rate in study.rates]  # side by side
            _draw_means(
                axis, places, [study.scores.mean(model, strategy, rate) for rate in study.rates], label=strategy
            )
        axis.set_xscale("log")
        axis.set_xticks(study.rates, [as_text(rate) for rate in study.rates])
        axis.minorticks_off()
        axis.set_xlabel("learning rate")
        axis.set_ylabel("test SI-SDR [dB]")
        axis.set_title(model.replace("_", " "), fontsize=10)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    return figure


def strategies_figure(study: Strategies) -> Figure:
    """Every strategy's SI-SDR less that without clipping (or AutoClip's, where all clip) with the same seed: the mean,
    its 95% interval, and each seed; the largest difference above.

    Raises:
        InputError: the runs have neither.
    """
    other = next((name for name in (NONE, AUTOCLIP) if name in study.strategies), None)
    if other is None:
        raise InputError(f"no runs with {NONE} or {AUTOCLIP}, beside which the others are drawn: add clip=none")
    names = [name for name in by_effect(study, other) if name != other]
    size = (1.5 + 4 * len(study.models), 1.2 + 0.28 * len(names))
    figure, axes = plt.subplots(
        1, len(study.models), figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axis, model in zip(axes[0], study.models, strict=True):
        theirs = study.scores.of(model, other)
        _draw_differences(axis, [study.scores.of(model, name) - theirs for name in names])
        _name_differences(axis, model, other)
    axes[0][0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0][0].invert_yaxis()
    return figure


def by_effect(study: Strategies, other: str = NONE) -> list[str]:
    """The strategies, sorted by their SI-SDR less another's in the mean over the models; last what has none."""

    def effect(name: str) -> float:
        gains = [study.gain(name, model, other) for model in study.models]
        return float(np.mean([gain.value for gain in gains if gain.num_values] or [-np.inf]))

    return sorted(study.strategies, key=effect, reverse=True)


def conditions_figure(study: Conditions, strategy: str = AUTOCLIP, other: str = NONE) -> Figure:
    """One strategy's SI-SDR less another's with the same seed under every condition, as in `strategies_figure`. A
    condition is named by what sets it apart from the most usual one."""
    count = max(len(study.of(model)) for model in study.models)
    size = (1 + 6 * len(study.models), 1.2 + 0.3 * count)
    figure, axes = plt.subplots(1, len(study.models), figsize=size, squeeze=False, sharex=True, layout="constrained")
    for axis, model in zip(axes[0], study.models, strict=True):
        titles = study.of(model)
        scores = {name: [study.scores.of(model, title, name) for title in titles] for name in (strategy, other)}
        _draw_differences(axis, [ours - theirs for ours, theirs in zip(*scores.values(), strict=True)])
        _name_differences(axis, f"{model}: {strategy}", other)
        axis.set_yticks(range(len(titles)), _differing_parts(titles), fontsize=8)
        axis.invert_yaxis()
    return figure


def _differing_parts(titles: Sequence[str]) -> list[str]:
    """Of titles of equally many parts, those that aren't the most frequent ones; a title that has only those stays."""
    rows = [title.split(", ") for title in titles]
    usual = [Counter(column).most_common(1)[0][0] for column in zip(*rows, strict=True)]
    return [
        ", ".join(part for part, common in zip(row, usual, strict=True) if part != common) or title
        for title, row in zip(titles, rows, strict=True)
    ]


def scales_figure(study: Scales) -> Figure:
    """Over the factor on the gradients, a line for each strategy: what each scale changes in SI-SDR, seed by seed, and
    the share of steps that were clipped."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for number, name in enumerate(study.strategies):
        aside = 1.3 ** (number - len(study.strategies) / 2)  # they would hide each other
        factors = [factor * aside for factor in study.scales.values()]
        shares = [study.clipped(name, scale) for scale in study.scales]
        _draw_means(
            axes[0], factors, [study.change(name, scale) for scale in study.scales], label=name, **line_style(number)
        )
        axes[1].plot(
            factors, [np.nan if share is None else 100 * share for share in shares], marker="o", **line_style(number)
        )
    for axis, label in zip(axes, ("change of test SI-SDR [dB]", "steps clipped [%]"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel("factor on the loss and its gradients")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_title("What other units of the loss change", fontsize=10)
    axes[1].set_title("Steps clipped", fontsize=10)
    figure.legend(fontsize=8, loc="outside right center")
    return figure


def _draw_means(axis: Axes, places: Sequence[float], means: Sequence[Mean], **style: Any) -> None:
    """Means that are there, with their intervals, joined by a line."""
    errors = np.nan_to_num([value.half_width for value in means])
    axis.errorbar(places, [value.value for value in means], errors, marker="o", capsize=3, **style)


def _draw_differences(axis: Axes, rows: Sequence[pd.Series]) -> None:
    """A row each: the mean with its interval, and a tick for each seed."""
    for place, differences in enumerate(rows):
        average = mean(differences)
        if average.num_values:
            error = average.half_width if average.num_values > 1 else None
            axis.errorbar(average.value, place, xerr=error, marker="o", color="C0", capsize=3)
            axis.plot(differences, [place] * len(differences), "|", color="0.4", markersize=9)


def _name_differences(axis: Axes, title: str, other: str) -> None:
    axis.axvline(0, color="gray", linewidth=0.8)
    axis.set_title(title.replace("_", " "), fontsize=10)
    axis.set_xlabel(f"test SI-SDR beside {other} [dB]")
    axis.grid(axis="x", alpha=0.3)


def curves_figure(study: Strategies, curves: pd.DataFrame) -> Figure:
    """Over the steps, means over seeds: above, the training loss; below, the share of steps that are clipped.

    Args:
        curves: see `separation.studies.curves`; of a grid of thresholds, the chosen one's are drawn.
    """
    keys = [name for name in curves if name in study.runs and (name in ("model", "seed") or is_clipping(name))]
    named = curves.merge(study.runs[[*keys, "strategy"]], on=keys)
    size = (3.5 + 4.5 * len(study.models), 4 + 0.25 * len(study.strategies))
    figure, axes = plt.subplots(2, len(study.models), figsize=size, squeeze=False, layout="constrained")
    for (top, bottom), model in zip(axes.T, study.models, strict=True):
        of_model = named[named["model"] == model]
        losses, shares = (
            of_model.pivot_table(name, "strategy", "step").reindex(by_effect(study))
            for name in ("loss", "clipped_fraction")
        )
        for place, (name, loss) in enumerate(losses.iterrows()):
            top.plot(loss, label=name, linewidth=3 if name == NONE else 1.5, **line_style(place))
        image = bottom.imshow(100 * shares, aspect="auto", vmin=0, vmax=100, cmap="viridis", interpolation="nearest")
        top.set_title(model.replace("_", " "), fontsize=10)
        top.set_ylabel("training loss")
        top.set_xlabel("step")
        ticks = range(0, len(shares.columns), max(1, len(shares.columns) // 8))
        bottom.set_xticks(ticks, [str(shares.columns[tick]) for tick in ticks], fontsize=7)
        bottom.set_xlabel("step")
        bottom.set_yticks(range(len(shares)), shares.index if model == study.models[0] else [], fontsize=8)
    axes[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.colorbar(image, ax=axes[1], label="steps clipped [%]")
    return figure


FIGURES: dict[type, Callable[[Any], Figure]] = {
    Gains: gains_figure,
    PairedMixtures: mixtures_figure,
    Comparison: comparison_figure,
    Rates: rates_figure,
    Table1: table1_figure,
    Strategies: strategies_figure,
    Scales: scales_figure,
    Conditions: conditions_figure,
}
"""What draws a study."""
