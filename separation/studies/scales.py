"""The scale experiment: what clipping strategies make of a loss in other units."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

import matplotlib

matplotlib.use("Agg")  # figures are files here, on machines without a screen too

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from separation.errors import InputError
from separation.runs.summaries import table
from separation.studies.intervals import Mean, mean
from separation.studies.run_table import SCALES, Row, compare_settings, differing_lines
from separation.studies.strategies import shown, strategy_names

Scale = tuple[float, float]
"""Of the loss, and of the magnitudes that it reads."""
PLAIN: Scale = (1.0, 1.0)


class ScaleComparison:
    """Runs of one model by strategy, scale and seed; each threshold of a fixed strategy is one of its own.

    Args:
        rows: of runs.
        mixed: take runs that differ in corpus, size, steps or commit too.

    Raises:
        InputError: there are no runs, or of several models, or they differ and `mixed` is false, or two are of one
            cell and seed.

    Attributes:
        strategies: names.
        scales: sorted by what they make of the gradient of a loss that is linear in magnitudes.
    """

    def __init__(self, rows: Sequence[Row], mixed: bool = False) -> None:
        models = {row["model"] for row in rows}
        if len(models) != 1:
            found = f"runs of {', '.join(sorted(models))}; choose one" if models else "no finished runs"
            raise InputError(f"expected runs of one model, found {found}: recipes/clipping/scale.sh trains them")
        [self.model] = models
        self.settings, self.differing = compare_settings(rows, mixed, apart=SCALES)
        names = strategy_names(rows, tuned=False)
        self._cells: dict[tuple[str, Scale], dict[int, Row]] = defaultdict(dict)
        for row in rows:
            scale = float(row["loss_scale"]), float(row["magnitude_scale"])
            cell, seed = self._cells[names[row["clip"], row["p"]], scale], int(row["seed"])
            if seed in cell:
                raise InputError(f"two runs of {row['clip']}, scales {scale}, seed {seed}; leave out one")
            cell[seed] = row
        self.strategies = list(dict.fromkeys(name for name, _ in self._cells))
        self.scales = sorted({scale for _, scale in self._cells}, key=lambda scale: scale[0] * scale[1])
        self.num_seeds = len({row["seed"] for row in rows})

    def mean(self, strategy: str, scale: Scale) -> Mean | None:
        """Mean SI-SDR in dB over the seeds; None where there are no runs."""
        scores = self._scores(strategy, scale)
        return mean(list(scores.values())) if scores else None

    def change(self, strategy: str, scale: Scale) -> Mean | None:
        """Mean of what a scale changes in dB, seed by seed; None where no seed has both."""
        scaled, plain = (self._scores(strategy, own) for own in (scale, PLAIN))
        differences = [scaled[seed] - plain[seed] for seed in sorted(scaled.keys() & plain.keys())]
        return mean(differences) if differences else None

    def clipped(self, strategy: str, scale: Scale) -> float | None:
        """Mean share of the steps that were clipped; None where there are no runs."""
        shares = [float(row["clipped_fraction"]) for row in self._cells.get((strategy, scale), {}).values()]
        return fmean(shares) if shares else None

    def _scores(self, strategy: str, scale: Scale) -> dict[int, float]:
        return {seed: float(row["si_sdr"]) for seed, row in self._cells.get((strategy, scale), {}).items()}


def scale_title(scale: Scale) -> str:
    """As in "loss x 0.0001"."""
    parts = [f"{name} x {value:g}" for name, value in zip(("loss", "magnitudes"), scale, strict=True) if value != 1]
    return ", ".join(parts) or "as it is"


def report(own: ScaleComparison) -> str:
    """SI-SDR by strategy and scale, the changes from scale 1, and how many steps were clipped."""
    header = [own.model, "SI-SDR [dB]", "change", "clipped"]
    rows = []
    for name in own.strategies:
        for scale in own.scales:
            change = "" if scale == PLAIN else shown(own.change(name, scale), own.num_seeds)
            clipped = own.clipped(name, scale)
            share = "" if clipped is None else f"{clipped:.0%}"
            rows.append([f"{name}, {scale_title(scale)}", shown(own.mean(name, scale), own.num_seeds), change, share])
    remark = f"SI-SDR on the test split in dB, mean +- 95% interval over {own.num_seeds} seed(s); changes seed by seed"
    settings = ", ".join(f"{name} {value}" for name, value in own.settings.items())
    return "\n".join([table(header, rows), "", settings, remark, *differing_lines(own.differing)])


def scale_figure(own: ScaleComparison) -> Figure:
    """Over the factor on the gradients, a line for each strategy: what each scale changes in SI-SDR, seed by seed, and
    the share of steps that were clipped."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for number, name in enumerate(own.strategies):
        changes = [own.change(name, scale) for scale in own.scales]
        shares = [own.clipped(name, scale) for scale in own.scales]
        aside = 1.3 ** (number - len(own.strategies) / 2)  # they would hide each other
        factors = [scale[0] * scale[1] * aside for scale in own.scales]
        values = [change.value if change else math.nan for change in changes]
        errors = [change.half_width if change and change.num_values > 1 else 0.0 for change in changes]
        axes[0].errorbar(factors, values, errors, label=name, marker="o", capsize=3)
        axes[1].plot(factors, [math.nan if share is None else 100 * share for share in shares], marker="o")
    for axis, label in zip(axes, ("change of test SI-SDR [dB]", "steps clipped [%]"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel("factor on the loss and its gradients")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right center")
    return figure
