"""Metrics on disk: CSV files that grow by a row, and TensorBoard events beside them."""

import csv
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from separation.atomic import replacing
from separation.run_folder import RunFolder

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
    "train/clipped_fraction",
    "train/skipped_steps",
    "seconds",
)


class MetricsLog:
    """A CSV file to which one row of metrics is added at a time.

    Args:
        path: of the file; one that exists is continued.
        columns: its header; every row has exactly these keys, "step" among them.
        step: rows of later steps are dropped from a file that exists: they will be written again.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        _cut(path, columns, step)
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 (see close)
        self._rows = csv.DictWriter(self._file, columns)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row."""
        self._rows.writerow(row)

    def sync(self) -> None:
        """Brings the rows to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _cut(path: Path, columns: tuple[str, ...], step: int) -> None:
    """Leaves the header and the rows up to a step; a row that a crash cut short goes too."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        kept = csv.DictWriter(file, columns)
        kept.writeheader()
        if path.is_file():
            with open(path, newline="", encoding="utf-8", errors="replace") as old:
                for row in csv.DictReader((line.replace("\0", "") for line in old), columns):
                    number = row["step"] or ""
                    if number.isdecimal() and int(number) <= step and None not in row.values() and None not in row:
                        kept.writerow(row)


class Recorder:
    """What a training run writes while it runs, and shows: `steps.csv`, `epochs.csv`, TensorBoard events, a bar.

    Args:
        folder: the run's.
        step, validated: of the checkpoint from which the run goes on; 0: it begins.
        total: steps of the whole run.
        progress: show a progress bar.
    """

    def __init__(self, folder: RunFolder, step: int, validated: int, total: int, progress: bool) -> None:
        self._steps = MetricsLog(folder.steps, STEP_COLUMNS, step)
        self._epochs = MetricsLog(folder.epochs, EPOCH_COLUMNS, validated)
        # Imported here since it costs a second, and only training needs it.
        summary_writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._events = summary_writer(str(folder.tensorboard), purge_step=step + 1)
        self._bar = tqdm(total=total, initial=step, unit="step", disable=None if progress else True)

    def step(self, row: Mapping[str, Any]) -> None:
        """Adds an optimizer step."""
        self._steps.write(row)
        self._add_events(row)
        loss, norm, threshold = (row[f"train/{name}"] for name in ("loss", "grad_norm", "clip_threshold"))
        self._bar.set_postfix_str(f"loss {loss:.3g}, norm {norm:.3g}, threshold {threshold:.3g}", False)
        self._bar.update()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Adds an epoch."""
        self._epochs.write(row)
        self._add_events(row)

    def _add_events(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if "/" in name:
                self._events.add_scalar(name, value, row["step"])

    def sync(self) -> None:
        """Brings everything to the disk."""
        self._steps.sync()
        self._epochs.sync()
        self._events.flush()

    def close(self) -> None:
        """Closes the files and the bar."""
        for part in (self._steps, self._epochs, self._events, self._bar):
            part.close()
