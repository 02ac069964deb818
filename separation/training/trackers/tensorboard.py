"""TensorBoard: events in the run folder. torch's SummaryWriter writes in a thread, whose errors none can catch."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from separation.training.trackers.tracker import Row, TrackedRun


class TensorBoard:
    """One event for each row; the settings and the test scores for the tab "HParams"."""

    def begin(self, run: TrackedRun, step: int, identity: str | None) -> None:
        """Begins a file; events of later steps that another one has are no longer shown."""
        folder = run.folder.tensorboard
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 (see close)
        self._add(time.time(), file_version="brain.Event:2")
        if step:
            self._add(time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._add(time.time(), summary=hparams_pb(dict(run.settings), trial_id=run.name))

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in row.values.items()])
            self._add(row.time, step=row.step, summary=summary)
        self._writer.flush()

    def finish(self, scores: Row) -> None:
        self.write([scores])

    def _add(self, when: float, **content: Any) -> None:
        self._writer.write(Event(wall_time=when, **content).SerializeToString())

    def close(self) -> None:
        with suppress(OSError):
            self._writer.close()
