"""Hands a run's rows to its tracker, in batches and once each, and keeps the run safe from what goes wrong there."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from separation.runs.atomic_files import write_text
from separation.training.trackers.tracker import Row, ShowsSignals, Signal, TrackedRun, Tracker

log = logging.getLogger(__name__)
BATCH = 200
"""Rows that are handed over at once, at most."""
RETRY_SECONDS = 600.0
"""A tracker that failed is left alone for so long: what it waits for a network, the run waits."""
MOST_ROWS = 100_000
"""Rows that wait for a tracker that fails; older ones are in the CSV files only."""
LARGEST_MARK = 10_000
"""In bytes."""


class Mark(NamedTuple):
    """How far a tracker has come: by what it knows the run, and the last row that it got."""

    tracker: str
    identity: str | None
    step: int
    is_epoch: bool


class Tracking:
    """A run's tracker as the training loop sees it: it never raises, but is warned of once.

    Rows wait until there are `BATCH` of them or `sync` is called. How far the tracker has come is kept in the run's
    folder, so that a resumed run, which takes some steps again, hands over none of them twice.

    Args:
        tracker: gets the rows.
        run: what it is told of the run.
    """

    def __init__(self, tracker: Tracker, run: TrackedRun) -> None:
        self._tracker = tracker
        self._name = type(tracker).__name__
        self._run = run
        self._rows: deque[Row] = deque(maxlen=MOST_ROWS)
        self._mark = Mark(self._name, None, 0, False)
        self._step = 0
        self._is_open = False
        self._retry_at = 0.0
        self._is_warned = False

    @property
    def label(self) -> str:
        """A run's name before its lines, where a sweep has several."""
        return f"{self._run.name}: " if self._run.sweep else ""

    def open(self, step: int) -> None:
        """Begins, or goes on after a step."""
        self._step = step
        self._guarded(self._begin)

    def step(self, row: Mapping[str, Any]) -> None:
        """Adds an optimizer step's row of steps.csv."""
        self._add(row, False, {name: value for name, value in row.items() if "/" in name})

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Adds an epoch's row of epochs.csv, under tags of its own."""
        values = {f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "step")}
        self._add(row, True, values)

    @property
    def num_examples(self) -> int:
        """Validation mixtures that `show` wants after every epoch."""
        return self._tracker.num_examples if isinstance(self._tracker, ShowsSignals) else 0

    def show(self, step: int, signals: Sequence[Signal]) -> None:
        """Adds what the network made of some validation mixtures."""

        def send() -> None:
            if self._is_open and isinstance(self._tracker, ShowsSignals):
                self._tracker.show(step, signals)

        self._guarded(send)

    def _add(self, row: Mapping[str, Any], is_epoch: bool, values: dict[str, float]) -> None:
        self._rows.append(Row(row["step"], is_epoch, time.time(), values))
        if len(self._rows) >= BATCH:
            self.sync()

    def sync(self) -> None:
        """Hands over what waits."""
        if time.monotonic() >= self._retry_at:
            self._guarded(self._send)

    def finish(self, splits: Mapping[str, Mapping[str, Any]]) -> None:
        """Hands over what waits, and the mean scores of each test split."""
        scores = {
            f"{split}/{name}": value
            for split, means in splits.items()
            for name, value in means.items()
            if isinstance(value, float)
        }

        def send() -> None:
            self._send()
            self._tracker.finish(Row(self._step, True, time.time(), scores))

        self._guarded(send)

    def close(self) -> None:
        """Hands over what waits, and closes the tracker."""
        if self._is_open:
            self.sync()
        if self._is_open:
            self._guarded(self._tracker.close)
        self._is_open = False

    def _begin(self) -> None:
        before = _read(self._run.folder.tracker, self._name)
        identity = self._tracker.begin(self._run, self._step, before.identity if before else None)
        self._is_open = True
        if before and identity == before.identity:
            self._mark = before
            self._step = max(self._step, before.step)
        else:
            self._note(Mark(self._name, identity, 0, False))

    def _send(self) -> None:
        if not self._is_open:
            self._begin()
        while self._rows:
            batch = list(islice(self._rows, BATCH))
            new = [row for row in batch if (row.step, row.is_epoch) > (self._mark.step, self._mark.is_epoch)]
            if new:
                self._tracker.write(new)
                self._step = new[-1].step
                self._note(self._mark._replace(step=new[-1].step, is_epoch=new[-1].is_epoch))
            for _ in batch:
                self._rows.popleft()

    def _note(self, mark: Mark) -> None:
        """Remembers how far the tracker has come, if it is one that wants no row twice."""
        if mark.identity is not None:
            write_text(self._run.folder.tracker, json.dumps(mark._asdict()))
            self._mark = mark

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if not self._is_warned:
                reason = " ".join(str(error).split())[:300]
                log.warning(
                    "logger: %s: %s (%s); training goes on, and steps.csv and epochs.csv have everything",
                    *(self._name, type(error).__name__, reason),
                )
            self._is_warned = True
            self._retry_at = time.monotonic() + RETRY_SECONDS
            with suppress(Exception):
                if self._is_open:
                    self._tracker.close()
            self._is_open = False


def _read(path: Path, tracker: str) -> Mark | None:
    """What was noted of the same tracker; None where there is nothing, or something else."""
    try:
        if path.stat().st_size > LARGEST_MARK:
            return None
        mark = Mark(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    is_whole = isinstance(mark.identity, str) and type(mark.step) is int and type(mark.is_epoch) is bool
    return mark if is_whole and mark.tracker == tracker else None
