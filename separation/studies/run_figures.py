"""Run folders to figures."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from separation.data.decoding import read
from separation.errors import InputError
from separation.model.features import Stft
from separation.runs.run_folder import RunFolder, short_names
from separation.studies.drawing import line_style

DYNAMIC_RANGE_DB = 60
SMOOTHING_STEPS = 50
SEED = re.compile(r"(?:^|[,_/-])seed=?\d+")
"""In a run's name."""


def spectrogram_figure(folder: Path) -> Figure:
    """The mixture, and below it each estimate beside its reference, as log-magnitude spectrograms.

    Args:
        folder: one of a run's `audio/*` folders.

    Raises:
        InputError: it holds no mixture.
    """
    if not (folder / "mixture.wav").is_file():
        raise InputError(f"{folder}: holds no mixture.wav; give one of the folders in a run's audio folder")
    count = len(list(folder.glob("reference_*.wav")))
    if not count:
        raise InputError(f"{folder}: holds no reference_1.wav; give one of the folders in a run's audio folder")
    size = (9, 2.2 * (count + 1))
    figure, axes = plt.subplots(count + 1, 2, figsize=size, sharex=True, sharey=True, layout="constrained")
    names: list[tuple[str, str | None]] = [("mixture", None)]
    names += [(f"estimate_{i}", f"reference_{i}") for i in range(1, count + 1)]
    peak = None
    for row, pair in zip(axes, names, strict=True):
        for axis, name in zip(row, pair, strict=True):
            if name is None:
                axis.axis("off")
                continue
            samples, rate = read(folder / f"{name}.wav")
            decibels = 20 * np.log10(Stft()(torch.from_numpy(samples[:, 0])).abs().numpy().T + 1e-10)
            peak = decibels.max() if peak is None else peak
            image = _spectrogram(axis, decibels - peak, len(samples) / rate, rate)
            axis.set_title(name.replace("_", " "), fontsize=10)
    for row in axes:
        row[0].set_ylabel("frequency [kHz]")
    for axis in axes[-1]:
        axis.set_xlabel("time [s]")
    figure.colorbar(image, ax=axes, label="level [dB of the mixture's peak]", shrink=0.6)
    return figure


def _spectrogram(axis: Axes, decibels: np.ndarray, seconds: float, rate: int) -> Any:
    return axis.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, rate / 2000),
        vmin=-DYNAMIC_RANGE_DB,
        vmax=0,
        interpolation="none",  # a pixel a bin in an SVG file
        cmap="magma",
    )


def training_figure(folders: Sequence[RunFolder]) -> Figure:
    """Training loss, gradient norm and clipping threshold over steps, a line a run. Runs that differ in their seed
    alone share one: their mean, in a band from the lowest to the highest.

    Raises:
        InputError: a run has no steps, or its table is damaged.
    """
    figure, (losses, norms) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    names = short_names([folder.path.name for folder in folders])
    for number, (name, members) in enumerate(seeds_together(names).items()):
        tables = [_read_steps(folders[member]) for member in members]
        style = line_style(number)
        _draw_runs(losses, [_smooth(table["train/loss"]) for table in tables], style, name)
        _draw_runs(norms, [_smooth(table["train/grad_norm"]) for table in tables], style)
        thresholds = [table["train/clip_threshold"] for table in tables]
        if all(np.isfinite(threshold).any() for threshold in thresholds):
            norms.plot(pd.concat(thresholds, axis=1).mean(axis=1), color=style["color"], linestyle=":", linewidth=1)
    losses.set_title("Training loss", fontsize=10)
    norms.set_title("Gradient norm before clipping; dotted: the threshold", fontsize=10)
    losses.set_ylabel(f"training loss (mean of {SMOOTHING_STEPS} steps)")
    norms.set_ylabel(f"gradient norm (mean of {SMOOTHING_STEPS} steps)")
    norms.set_yscale("log")
    if not any((line.get_ydata() <= 0).any() for line in losses.lines):  # waveforms' losses are in dB
        losses.set_yscale("log")
    for axis in (losses, norms):
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def seeds_together(names: Sequence[str]) -> dict[str, list[int]]:
    """Which runs' names differ in the seed alone: their places by what is left, numbers in their order."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(SEED.sub("", name).strip(",_/-"), []).append(place)
    ordered = sorted(groups, key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(20), name))
    counts = {name: f" ({len(groups[name])} seeds)" if len(groups[name]) > 1 else "" for name in ordered}
    return {f"{name}{counts[name]}".strip(): groups[name] for name in ordered}


def _read_steps(folder: RunFolder) -> pd.DataFrame:
    columns = read_columns(folder.steps)
    missing = {"step", "train/loss", "train/grad_norm", "train/clip_threshold"} - set(columns)
    if missing:
        raise InputError(f"{folder.steps}: has no column {', '.join(sorted(missing))}; was it written by train.py?")
    if not ((np.diff(columns["step"], prepend=0) > 0).all() and columns["step"][-1] < 1e12):
        raise InputError(f"{folder.steps}: its steps don't rise from 1 on; was it written by train.py?")
    return pd.DataFrame(columns).set_index("step")


def _smooth(values: pd.Series) -> pd.Series:
    """Running means, each at its window's last step."""
    window = min(SMOOTHING_STEPS, len(values))
    means = np.convolve(values, np.full(window, 1 / window), mode="valid")
    return pd.Series(means, values.index[window - 1 :])


def _draw_runs(axis: Axes, curves: Sequence[pd.Series], style: dict[str, Any], label: str | None = None) -> None:
    """The mean over the steps that all have, and where there are several, how far they lie apart."""
    table = pd.concat(curves, axis=1, join="inner")
    axis.plot(table.mean(axis=1, skipna=False), label=label, **style)
    if len(curves) > 1:
        low, high = table.min(axis=1), table.max(axis=1)
        axis.fill_between(table.index, low, high, color=style["color"], alpha=0.2, linewidth=0)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """A CSV file of numbers as one float64 array a column.

    Raises:
        InputError: there is no such file, it holds no rows, or something else than numbers.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file; give a folder that train.py wrote")
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); give a folder that train.py wrote") from error
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: is no table ({error}); give a folder that train.py wrote") from error
    if rows and len(rows[-1]) < len(header):
        rows.pop()  # of a run that is being written
    if not rows:
        raise InputError(f"{path}: holds no rows; train for at least one step")
    if len(set(header)) < len(header):
        raise InputError(f"{path}: has two columns of one name; was it written by train.py?")
    columns: dict[str, list[float]] = {name: [] for name in header}
    for number, row in enumerate(rows, start=1):
        try:
            for name, value in zip(header, row, strict=True):
                columns[name].append(float(value or "nan"))
        except ValueError as error:
            raise InputError(f"{path}: row {number} is damaged ({error}); remove that row") from error
    return {name: np.array(values) for name, values in columns.items()}
