"""What a tracker is: TensorBoard, Weights & Biases, MLflow, or one of your own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from separation.errors import InputError
from separation.runs.run_folder import RunFolder


class Row(NamedTuple):
    """Values of one step, of the epoch that ended with it, or of the network that it left.

    Attributes:
        time: when they were recorded, in seconds since 1970.
        values: by tag: `train/loss` of a step, `epoch/train/loss` of an epoch, `test/si_sdr` of the network.
    """

    step: int
    is_epoch: bool
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        folder: the run's, in which a tracker may write.
        sweep: folder of the sweep that it belongs to, or None.
        name: short, for people.
        settings: its hyper-parameters, by dotted names.
    """

    folder: RunFolder
    sweep: Path | None
    name: str
    settings: Mapping[str, str | float]


class Signal(NamedTuple):
    """Something to listen to: `mixture`, `reference_1`, `estimate_1`, ... of a validation mixture."""

    tag: str
    samples: np.ndarray
    """Shape (time,)."""
    rate: int


@runtime_checkable
class ShowsSignals(Protocol):
    """A tracker that people listen to."""

    num_examples: int
    """Validation mixtures that it gets after every epoch."""

    def show(self, step: int, signals: Sequence[Signal]) -> None:
        """Adds what the network made of them after a step."""


class Tracker(Protocol):
    """Receives a run's rows in their order. Any method may raise: `Tracking` turns that into a warning."""

    def begin(self, run: TrackedRun, step: int, identity: str | None) -> str | None:
        """Opens the run, or opens it again.

        Args:
            step: rows of later steps will follow, some of them perhaps for the second time.
            identity: what this method returned when the run began; None: it begins.

        Returns:
            By what the tracker knows the run, if it has to be asked for its next part; it then gets no row twice.
        """

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows, and brings them to where they are kept."""

    def finish(self, scores: Row) -> None:
        """Adds the test scores of the trained network."""

    def close(self) -> None:
        """Ends this part of the run, which may be resumed unless it is finished."""


class NoTracker:
    """`logger=csv`: none beside steps.csv and epochs.csv."""

    def begin(self, run: TrackedRun, step: int, identity: str | None) -> None: ...

    def write(self, rows: Sequence[Row]) -> None: ...

    def finish(self, scores: Row) -> None: ...

    def close(self) -> None: ...


def check_installed(package: str) -> None:
    """Raises InputError where the package of an optional tracker is missing."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a folder of this name, which holds runs, is no package
        raise InputError(f'logger={package}: {package} isn\'t installed; pip install ".[{package}]" installs it')
