"""Figure 1 of the paper: training dynamics without clipping and with AutoClip, whole or growing with training."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.animation
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from tqdm import tqdm

from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, table
from separation.studies.run_figures import read_columns
from separation.training.dynamics_recorder import COLUMNS

NAMES = ("no clipping", "AutoClip")
COLORS = ("C1", "C0")
FRAMES = 40
FEWEST_ROWS = 3
SMOOTHED = 15
"""Rows of the moving average over the loss's curve."""
Runs = Sequence[pd.DataFrame]
"""The runs without and with clipping, or one of them."""


def load_dynamics(folder: RunFolder) -> pd.DataFrame:
    """A run's recorded dynamics; gradient norm and smoothness as decimal logarithms, NaN where a step was left out.

    Raises:
        InputError: there are none, or too few.
    """
    if not folder.dynamics.is_file():
        raise InputError(f"{folder.dynamics}: isn't there; train with trainer.dynamics_steps=20")
    run = pd.DataFrame(read_columns(folder.dynamics))
    if set(run) != set(COLUMNS):
        raise InputError(f"{folder.dynamics}: expected the columns {', '.join(COLUMNS)}")
    if len(run) < FEWEST_ROWS:
        raise InputError(f"{folder.dynamics}: has fewer than {FEWEST_ROWS} rows; train longer, or record more often")
    for name in ("grad_norm", "smoothness"):
        run[name] = np.log10(run[name].where(np.isfinite(run[name]) & (run[name] > 0)))
    return run


def is_clipped(run: pd.DataFrame) -> bool:
    """Whether a gradient norm lay above its threshold."""
    return bool((np.log10(run["threshold"]) < run["grad_norm"] - 1e-6).any())


def correlation(run: pd.DataFrame) -> float:
    """Pearson's r between the logarithms of smoothness and gradient norm."""
    return float(run["smoothness"].corr(run["grad_norm"]))


def step_size_variances(run: pd.DataFrame) -> list[str]:
    """Of the whole training, and after its first quarter."""
    return [f"{np.var(sizes.to_numpy()):.2g}" for sizes in (run["step_size"], run["step_size"][len(run) // 4 :])]


def names(runs: Runs) -> list[str]:
    """What each is called."""
    return list(NAMES) if len(runs) == len(NAMES) else [NAMES[is_clipped(run)] for run in runs]


def dynamics_table(runs: Runs, folders: Sequence[RunFolder]) -> str:
    """What the paper says of runs in numbers."""
    rows = []
    for name, run, folder in zip(names(runs), runs, folders, strict=True):
        summary = load_summary(folder)
        score = f"{summary['si_sdr']:.2f}" if summary else "-"
        rows.append([name, f"{correlation(run):.2f}", *step_size_variances(run), score])
    return table(["run", "r", "step size's variance", "after the first quarter", "test SI-SDR [dB]"], rows)


def dynamics_figure(runs: Runs) -> Figure:
    """The paper's four panels: step size, log loss, and smoothness against gradient norm without and with AutoClip."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    clouds = _draw(axes, runs, runs)
    figure.colorbar(clouds[-1], ax=axes[1], label="iterations", shrink=0.8)
    return figure


def dynamics_animation(path: Path, runs: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Writes the panels as a GIF that grows with training; its axes stay as they end, and each frame has its iteration
    and threshold."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained", dpi=70)

    frames = min(FRAMES, max(map(len, runs)))  # no two alike

    def draw(frame: int) -> list[Axes]:
        for axis in axes.flat:
            axis.clear()
        unclipped, clipped = (run.head(max(FEWEST_ROWS, len(run) * (frame + 1) // frames)) for run in runs)
        _draw(axes, (unclipped, clipped), runs)
        figure.suptitle(f"iteration {int(max(unclipped['step'].iloc[-1], clipped['step'].iloc[-1])):,}")
        return list(axes.flat)

    animation = matplotlib.animation.FuncAnimation(figure, draw, frames=frames, blit=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, tqdm(total=frames, desc=path.name, disable=None, leave=False) as bar:
        named = temporary.with_suffix(".gif")  # the writer goes by the name's end
        writer = matplotlib.animation.PillowWriter(fps=8)
        animation.save(named, writer=writer, progress_callback=lambda *_: bar.update())
        named.replace(temporary)
    plt.close(figure)


def _draw(axes: np.ndarray, shown: Runs, whole: Runs) -> list[PolyCollection]:
    """The panels of some rows, with the limits of all; returns the two clouds."""
    (sizes, losses), clouds = axes
    drawn = []
    for run, name, color in zip(shown, names(whole), COLORS, strict=False):
        sizes.plot(run["step"], run["step_size"], color=color, label=name, linewidth=0.8)
        losses.plot(run["step"], _loss(run, whole), color=color, linewidth=0.6, alpha=0.3)
        smooth = run["loss"].rolling(SMOOTHED, min_periods=1, center=True).mean()
        losses.plot(run["step"], _loss(run.assign(loss=smooth), whole), color=color, linewidth=1.5)
    last = max(run["step"].iloc[-1] for run in whole)
    for axis in (sizes, losses):
        axis.set_xlim(0, last)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    sizes.set_title("Step size", fontsize=10)
    losses.set_title(f"Training loss, and its mean over {SMOOTHED} records", fontsize=10)
    sizes.set_yscale("log")
    sizes.set_ylim(*_limits([run["step_size"][run["step_size"] > 0] for run in whole], factor=True))
    sizes.set_ylabel(r"$\|\theta_t - \theta_{t-1}\|$ (log scale)")
    sizes.legend(fontsize=8, loc="upper right")
    losses.set_ylabel("log10(training loss)" if _positive(whole) else "training loss")
    losses.set_ylim(*_limits([_loss(run, whole) for run in whole]))
    for axis in clouds[len(whole) :]:
        axis.axis("off")
    norms, smoothness = (_limits([run[name] for run in whole]) for name in ("grad_norm", "smoothness"))
    for axis, run, name, color in zip(clouds, shown, names(whole), COLORS, strict=False):
        cloud = run[["grad_norm", "smoothness"]].dropna()
        extent = (*norms, *smoothness)
        drawn.append(axis.hexbin(*cloud.to_numpy().T, gridsize=25, extent=extent, mincnt=1, cmap="viridis"))
        if is_clipped(run):
            label = f"threshold at iteration {int(run['step'].iloc[-1]):,}"
            axis.axvline(np.log10(run["threshold"].iloc[-1]), color=color, linestyle=":", label=label)
            axis.legend(fontsize=8, loc="lower right")
        axis.set_title(f"{name}: r = {correlation(run):.2f}", fontsize=10)
        axis.set_xlim(*norms)
        axis.set_ylim(*smoothness)
        axis.set_xlabel("log10(gradient norm)")
        axis.set_ylabel("log10(local smoothness)")
    most = max(1.0, *(value for cloud in drawn for value in np.ma.filled(cloud.get_array(), 1)))
    for cloud in drawn:
        cloud.set_clim(1, most)  # one scale for both
    return drawn


def _positive(runs: Runs) -> bool:
    """Whether the loss has a logarithm: L_SNR, in dB, is negative."""
    return all((run["loss"][np.isfinite(run["loss"])] > 0).all() for run in runs)


def _loss(run: pd.DataFrame, whole: Runs) -> pd.Series:
    return np.log10(run["loss"]) if _positive(whole) else run["loss"]


def _limits(columns: list[pd.Series], factor: bool = False) -> tuple[float, float]:
    """A little more than the values' range; `factor`: for logarithmic axes."""
    values = np.concatenate([column[np.isfinite(column)] for column in columns])
    if not len(values):
        raise InputError("dynamics.csv: has a column without a finite number; was every step left out?")
    low, high = float(values.min()), float(values.max())
    if factor:
        return low / 1.2, high * 1.2
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin
