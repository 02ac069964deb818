"""What a tracker is handed: every row once, whatever happens to the run or to the tracker."""

import json
import logging
import time
from contextlib import closing

from conftest import assert_same, epoch_row, step_row
from omegaconf import OmegaConf

from separation.app.settings import compose_config
from separation.runs.run_folder import RunFolder
from separation.training.trackers import tracking
from separation.training.trackers.tensorboard import TensorBoard
from separation.training.trackers.tracker import Row
from separation.training.trackers.tracking import Tracking


class Recorded:
    """A tracker that keeps what it is told; fails while `is_down`."""

    def __init__(self, identity: str | None = "abc") -> None:
        self.identity = identity
        self.begun: list[tuple[int, str | None]] = []
        self.rows: list[Row] = []
        self.calls = self.closed = 0
        self.scores: Row | None = None
        self.is_down = False

    def begin(self, run, step, identity):
        self.fail()
        self.begun.append((step, identity))
        return identity or self.identity

    def write(self, rows):
        self.fail()
        self.calls += 1
        self.rows += rows

    def finish(self, scores):
        self.fail()
        self.scores = scores

    def close(self):
        self.closed += 1

    def fail(self):
        if self.is_down:
            raise ConnectionError("no network")


def test_a_resumed_run_hands_over_no_row_twice(tracked_run):
    tracker = Recorded()
    with closing(Tracking(tracker, tracked_run)) as first:
        first.open(0)
        for step in (1, 2, 3):
            first.step(step_row(step))
        first.epoch(epoch_row(3))
        first.sync()
        first.step(step_row(4))
    with closing(Tracking(tracker, tracked_run)) as second:  # from the checkpoint after step 2
        second.open(2)
        for step in (3, 4, 5):
            second.step(step_row(step))
            if step == 3:
                second.epoch(epoch_row(3))
        second.finish({"test": {"si_sdr": 7.5, "num_mixtures": 3, "oracle": {}}})
    assert tracker.begun == [(0, None), (2, "abc")] and tracker.closed == 2
    assert [(row.step, row.is_epoch) for row in tracker.rows] == [(s, False) for s in (1, 2, 3)] + [(3, True)] + [
        (4, False),
        (5, False),
    ]
    assert tracker.rows[0].values["train/loss"] == 1 and set(tracker.rows[0].values) == {
        "train/loss",
        "train/grad_norm",
    }
    assert tracker.rows[3].values == {"epoch/train/loss": 0.5, "epoch/valid/loss": 0.25, "epoch/seconds": 3.0}
    assert tracker.scores.values == {"test/si_sdr": 7.5} and tracker.scores.step == 5


def test_an_epochs_row_is_not_taken_for_that_of_its_last_step(tracked_run):
    tracker = Recorded()
    for begin in (0, 0):  # killed between the two rows
        with closing(Tracking(tracker, tracked_run)) as part:
            part.open(begin)
            part.step(step_row(1))
            if tracker.rows:
                part.epoch(epoch_row(1))
    assert [(row.step, row.is_epoch) for row in tracker.rows] == [(1, False), (1, True)]


def test_another_tracker_begins_anew_on_resume(tracked_run):
    for text in ('{"tracker": "Recorded", "identity": 3, "step": 9, "is_epoch": false}', '["nonsense"]', "{" * 100_000):
        tracked_run.folder.tracker.write_text(text)
        tracker = Recorded()
        with closing(Tracking(tracker, tracked_run)) as started:
            started.open(4)
            started.step(step_row(5))
        assert tracker.begun == [(4, None)] and [row.step for row in tracker.rows] == [5]
    mark = {"tracker": "Recorded", "identity": "elsewhere", "step": 9, "is_epoch": False}
    tracked_run.folder.tracker.write_text(json.dumps(mark))
    tracker = Recorded()
    tracker.begin = lambda run, step, identity: "new"  # what knew the run isn't there any more
    with closing(Tracking(tracker, tracked_run)) as started:
        started.open(4)
        started.step(step_row(5))
    assert [row.step for row in tracker.rows] == [5]
    assert json.loads(tracked_run.folder.tracker.read_text())["identity"] == "new"


def test_rows_are_handed_over_in_batches(tracked_run):
    tracker = Recorded()
    with closing(Tracking(tracker, tracked_run)) as many:
        many.open(0)
        for step in range(1, 20_001):
            many.step(step_row(step))
    assert tracker.calls == 100 and [row.step for row in tracker.rows] == list(range(1, 20_001))


def test_a_tracker_that_fails_is_warned_of_once_and_catches_up(tracked_run, caplog, monkeypatch):
    tracker = Recorded()
    with caplog.at_level(logging.WARNING), closing(Tracking(tracker, tracked_run)) as guarded:
        tracker.is_down = True
        guarded.open(0)
        for step in range(1, 1001):
            guarded.step(step_row(step))
        guarded.sync()
        assert len(caplog.messages) == 1 and "Recorded: ConnectionError (no network); training goes on" in caplog.text
        tracker.is_down = False
        guarded.sync()
        assert not tracker.rows  # it is left alone for a while
        monkeypatch.setattr(tracking, "RETRY_SECONDS", 0)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 601)
        guarded.sync()
        assert [row.step for row in tracker.rows] == list(range(1, 1001))
        tracker.is_down = True
        guarded.step(step_row(1001))
        guarded.sync()
        tracker.is_down = False
        guarded.finish({})
    assert [row.step for row in tracker.rows] == list(range(1, 1002)) and len(caplog.messages) == 1
    assert tracker.begun == [(0, None), (1000, "abc")]


def test_training_is_the_same_with_a_tracker_that_fails(fit, tmp_path, monkeypatch, caplog):
    fit("alone", "logger=csv")
    assert not (tmp_path / "alone/tensorboard").exists()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "write", full)
    fit("failing")
    assert_same(tmp_path / "alone", tmp_path / "failing")
    assert caplog.text.count("No space left on device") == 1


def test_another_tracker_may_be_chosen_on_resume(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_config(compose_config("config", ["run_dir=x"]))
    assert folder.changed(compose_config("config", ["run_dir=x", "logger=mlflow", "logger.experiment=e"])) == []
    older = OmegaConf.masked_copy(folder.load_config(), [key for key in folder.load_config() if key != "logger"])
    folder.config.write_text(OmegaConf.to_yaml(older))
    assert folder.changed(compose_config("config", ["run_dir=x"])) == []
