"""Metrics on disk: CSV files that grow by a row, and what shows them meanwhile."""

import csv
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from separation.runs.atomic_files import replacing, write_error
from separation.runs.run_folder import RunFolder
from separation.training.trackers.tracker import Signal
from separation.training.trackers.tracking import Tracking

STEP_COLUMNS = (
    "step",
    "epoch",
    "train/loss",
    "train/grad_norm",
    "train/clip_threshold",
    "train/clip_coefficient",
    "train/seconds",
)
EPOCH_COLUMNS = (
    "epoch",
    "step",
    "train/loss",
    "valid/loss",
    "valid/si_sdr",
    "train/clipped_fraction",
    "train/skipped_steps",
    "train/learning_rate",
    "seconds",
)
AVERAGED_COLUMNS = ("valid/averaged_loss", "valid/averaged_si_sdr")


BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {remaining} left, {rate_noinv_fmt}{postfix}"


class MetricsLog:
    """A CSV file to which one row of metrics is added at a time.

    Args:
        path: of the file; one that exists is continued.
        columns: its header; every row has exactly these keys, "step" among them.
        step: rows of later steps are dropped from a file that exists: they will be written again.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        _cut(path, columns, step)
        self._path = path
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 (see close)
        self._rows = csv.DictWriter(self._file, columns)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row.

        Raises:
            InputError: the disk is full.
        """
        try:
            self._rows.writerow(row)
        except OSError as error:
            raise write_error(self._path, error) from error

    def sync(self) -> None:
        """Brings the rows to the disk.

        Raises:
            InputError: the disk is full, or the file is gone.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error

    def close(self) -> None:
        """Closes the file; what can't be written any more was reported by `write` or `sync`."""
        with suppress(OSError):
            self._file.close()


def _cut(path: Path, columns: tuple[str, ...], step: int) -> None:
    """Leaves the header and the rows up to a step; a row that a crash cut short goes too."""
    try:
        _copy(path, columns, step)
    except OSError as error:
        raise write_error(path, error) from error


def _copy(path: Path, columns: tuple[str, ...], step: int) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        kept = csv.DictWriter(file, columns)
        kept.writeheader()
        if path.is_file():
            with open(path, newline="", encoding="utf-8", errors="replace") as old:
                for row in csv.DictReader(line.replace("\0", "") for line in old):
                    number = row.get("step") or ""
                    if number.isdecimal() and int(number) <= step and None not in row.values() and None not in row:
                        kept.writerow({name: row.get(name, "") for name in columns})  # earlier versions had fewer


class Recorder:
    """What a training run writes while it runs, and shows: `steps.csv`, `epochs.csv`, what its tracker keeps, a bar.

    Args:
        folder: the run's.
        step, validated: of the checkpoint from which the run goes on; 0: it begins.
        total: steps of the whole run.
        progress: show a progress bar.
        averaged: epochs have columns of the averaged weights.
        tracking: gets the rows, too, if there is one; whoever made it closes it.
    """

    def __init__(
        self,
        folder: RunFolder,
        step: int,
        validated: int,
        total: int,
        progress: bool,
        averaged: bool = False,
        tracking: Tracking | None = None,
    ) -> None:
        self._steps = MetricsLog(folder.steps, STEP_COLUMNS, step)
        self._epochs = MetricsLog(folder.epochs, EPOCH_COLUMNS + (AVERAGED_COLUMNS if averaged else ()), validated)
        self.label = "" if tracking is None else tracking.label
        """What the run's lines begin with."""
        self._tracking = tracking
        if tracking:
            tracking.open(step)
        hidden = None if progress else True  # None: where there is no terminal
        self._bar = tqdm(total=total, initial=step, unit="", bar_format=BAR, dynamic_ncols=True, disable=hidden)

    def step(self, row: Mapping[str, Any]) -> None:
        """Adds an optimizer step."""
        self._steps.write(row)
        if self._tracking:
            self._tracking.step(row)
        self._bar.set_postfix_str(_in_short(row), refresh=False)
        self._bar.update()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Adds an epoch."""
        self._epochs.write(row)
        if self._tracking:
            self._tracking.epoch(row)

    def show(self, step: int, examples: Callable[[int], list[Signal]]) -> None:
        """Adds something to listen to.

        Args:
            examples: so many validation mixtures' signals.
        """
        if self._tracking and self._tracking.num_examples:
            self._tracking.show(step, examples(self._tracking.num_examples))

    def sync(self) -> None:
        """Brings everything to the disk."""
        self._steps.sync()
        self._epochs.sync()
        if self._tracking:
            self._tracking.sync()

    def close(self) -> None:
        """Closes the files and the bar."""
        for part in (self._steps, self._epochs, self._bar):
            part.close()


def _in_short(row: Mapping[str, Any]) -> str:
    """A step in some 40 columns: loss, gradient norm, and the threshold where there is one."""
    loss, norm, threshold = (row[f"train/{name}"] for name in ("loss", "grad_norm", "clip_threshold"))
    limit = f" > {threshold:.2g}" if threshold < norm else f" < {threshold:.2g}" if math.isfinite(threshold) else ""
    return f"loss {loss:.3g}, norm {norm:.2g}{limit}"
