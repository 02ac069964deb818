"""Metrics on disk: CSV files that grow by a row, and TensorBoard events beside them."""

import csv
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    """Writes one row of metrics at a time to a CSV file, and the same values to TensorBoard.

    Args:
        path: of the CSV file.
        columns: its header; every row has exactly these keys.
        tensorboard: the events' folder.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], tensorboard: Path) -> None:
        self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 (see close)
        self._rows = csv.DictWriter(self._file, columns)
        self._rows.writeheader()
        # Imported here since it costs a second, and only training needs it.
        summary_writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._events = summary_writer(str(tensorboard))

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row; values under a name with a slash also go to TensorBoard."""
        self._rows.writerow(row)
        for name, value in row.items():
            if "/" in name:
                self._events.add_scalar(name, value, row["step"])

    def flush(self) -> None:
        """Brings the rows to the disk."""
        self._file.flush()
        self._events.flush()

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        self._events.close()
