"""Figure 1 of the paper: training dynamics without clipping and with AutoClip, whole or growing with training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.animation
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, table
from separation.studies.run_figures import read_columns
from separation.training.dynamics import COLUMNS

COLORS = ("C1", "C0")
FRAMES = 40
FEWEST_ROWS = 3


@dataclass(frozen=True)
class Dynamics:
    """One run's `dynamics.csv`.

    Attributes:
        name: of the run, for legends.
        step, loss, step_size: shape (row,).
        grad_norm, smoothness: decimal logarithms, shape (row,), NaN where a step was left out.
        threshold: shape (row,).
    """

    name: str
    step: np.ndarray
    loss: np.ndarray
    step_size: np.ndarray
    grad_norm: np.ndarray
    smoothness: np.ndarray
    threshold: np.ndarray

    @property
    def is_clipped(self) -> bool:
        """Whether a gradient norm lay above its threshold."""
        return bool((np.log10(self.threshold) < self.grad_norm - 1e-6).any())

    @property
    def correlation(self) -> float:
        """Pearson's r between the logarithms of smoothness and gradient norm."""
        kept = np.isfinite(self.smoothness) & np.isfinite(self.grad_norm)
        return float(np.corrcoef(self.smoothness[kept], self.grad_norm[kept])[0, 1])

    def until(self, count: int) -> "Dynamics":
        """The first rows."""
        columns = (getattr(self, name)[:count] for name in COLUMN_FIELDS)
        return Dynamics(self.name, *columns)


COLUMN_FIELDS = ("step", "loss", "step_size", "grad_norm", "smoothness", "threshold")


def load_dynamics(folder: RunFolder, name: str) -> Dynamics:
    """A run's recorded dynamics.

    Raises:
        InputError: there are none, or too few.
    """
    if not folder.dynamics.is_file():
        raise InputError(f"{folder.dynamics}: isn't there; train with trainer.dynamics_steps=20")
    columns = read_columns(folder.dynamics)
    if set(columns) != set(COLUMNS):
        raise InputError(f"{folder.dynamics}: expected the columns {', '.join(COLUMNS)}")
    if len(columns["step"]) < FEWEST_ROWS:
        raise InputError(f"{folder.dynamics}: has fewer than {FEWEST_ROWS} rows; train longer, or record more often")
    for key in ("grad_norm", "smoothness"):
        values = columns[key]
        columns[key] = np.log10(np.where(np.isfinite(values) & (values > 0), values, np.nan))
    return Dynamics(name, *(columns[key] for key in COLUMN_FIELDS))


def dynamics_table(runs: Sequence[Dynamics], folders: Sequence[RunFolder]) -> str:
    """What the paper says of runs in numbers."""
    rows = []
    for run, folder in zip(runs, folders, strict=True):
        summary = load_summary(folder)
        score = f"{summary['si_sdr']:.2f}" if summary else "-"
        settled = run.step_size[len(run.step_size) // 4 :]
        rows.append(
            [run.name, f"{run.correlation:.2f}", *(f"{np.var(x):.2g}" for x in (run.step_size, settled)), score]
        )
    return table(["run", "r", "step size's variance", "after the first quarter", "test SI-SDR [dB]"], rows)


def dynamics_figure(unclipped: Dynamics, clipped: Dynamics) -> Figure:
    """The paper's four panels: step size, log loss, and smoothness against gradient norm without and with AutoClip."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    _draw(axes, (unclipped, clipped), (unclipped, clipped))
    return figure


def dynamics_animation(path: Path, unclipped: Dynamics, clipped: Dynamics) -> None:
    """Writes the panels as a GIF that grows with training; its axes stay as they end."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained", dpi=70)
    whole = (unclipped, clipped)

    def draw(frame: int) -> list[Axes]:
        for axis in axes.flat:
            axis.clear()
        shown = [run.until(max(FEWEST_ROWS, len(run.step) * (frame + 1) // FRAMES)) for run in whole]
        _draw(axes, (shown[0], shown[1]), whole)
        return list(axes.flat)

    animation = matplotlib.animation.FuncAnimation(figure, draw, frames=FRAMES, blit=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        named = temporary.with_suffix(".gif")  # the writer goes by the name's end
        animation.save(named, writer=matplotlib.animation.PillowWriter(fps=8))
        named.replace(temporary)
    plt.close(figure)


def _draw(axes: np.ndarray, shown: tuple[Dynamics, Dynamics], whole: tuple[Dynamics, Dynamics]) -> None:
    """The panels of some rows, with the limits of all."""
    (sizes, losses), clouds = axes
    for run, color in zip(shown, COLORS, strict=True):
        sizes.plot(run.step, run.step_size, color=color, label=run.name, linewidth=0.8)
        losses.plot(run.step, np.log10(run.loss) if _positive(whole) else run.loss, color=color, linewidth=0.8)
    last = max(run.step[-1] for run in whole)
    for axis in (sizes, losses):
        axis.set_xlim(0, last)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    sizes.set_yscale("log")
    sizes.set_ylim(*_limits([run.step_size[run.step_size > 0] for run in whole], factor=True))
    sizes.set_ylabel(r"step size $\|\theta_t - \theta_{t-1}\|$")
    sizes.legend(fontsize=8, loc="upper right")
    losses.set_ylabel("log10(training loss)" if _positive(whole) else "training loss")
    losses.set_ylim(*_limits([np.log10(run.loss) if _positive(whole) else run.loss for run in whole]))
    norms, smoothness = (_limits([getattr(run, name) for run in whole]) for name in ("grad_norm", "smoothness"))
    for axis, run, color in zip(clouds, shown, COLORS, strict=True):
        kept = np.isfinite(run.smoothness) & np.isfinite(run.grad_norm)
        extent = (*norms, *smoothness)
        axis.hexbin(run.grad_norm[kept], run.smoothness[kept], gridsize=25, extent=extent, mincnt=1, cmap="viridis")
        if run.is_clipped:
            axis.axvline(np.log10(run.threshold[-1]), color=color, linestyle=":", label="threshold at the end")
            axis.legend(fontsize=8, loc="lower right")
        axis.set_title(f"{run.name}: r = {run.correlation:.2f}", fontsize=10)
        axis.set_xlim(*norms)
        axis.set_ylim(*smoothness)
        axis.set_xlabel("log10(gradient norm)")
        axis.set_ylabel("log10(local smoothness)")


def _positive(runs: tuple[Dynamics, Dynamics]) -> bool:
    """Whether the loss has a logarithm: L_SNR, in dB, is negative."""
    return all((run.loss[np.isfinite(run.loss)] > 0).all() for run in runs)


def _limits(arrays: list[np.ndarray], factor: bool = False) -> tuple[float, float]:
    """A little more than the values' range; `factor`: for logarithmic axes."""
    values = np.concatenate([array[np.isfinite(array)] for array in arrays])
    if not len(values):
        raise InputError("dynamics.csv: has a column without a finite number; was every step left out?")
    low, high = float(values.min()), float(values.max())
    if factor:
        return low / 1.2, high * 1.2
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin
