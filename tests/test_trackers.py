"""What trackers receive: every row once, under its tag, whatever happens to the run or to the tracker."""

import importlib
import io
import json
import logging
import math
import struct
import sys
import time
from contextlib import closing
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
from conftest import TINY, assert_same, rows, run_program
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from separation.app.assembly import build
from separation.app.command import folder_name, job, sentence
from separation.app.settings import CONF, compose_config
from separation.app.sweeps import SweepReport
from separation.app.tracking import tracked_run
from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.training.trackers import tracking
from separation.training.trackers.mlflow import MLflow
from separation.training.trackers.tensorboard import TensorBoard
from separation.training.trackers.tracker import Row, Signal, TrackedRun
from separation.training.trackers.tracking import Tracking
from separation.training.trackers.wandb import Wandb


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


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    return TrackedRun(RunFolder(tmp_path), None, "run", {"clip.p": 10, "model.hidden_size": 8, "clip._target_": "x"})


def step_row(step: int) -> dict[str, float]:
    return {"step": step, "epoch": 0, "train/loss": 1 / step, "train/grad_norm": math.nan}


def epoch_row(step: int) -> dict[str, float]:
    return {"epoch": 1, "step": step, "train/loss": 0.5, "valid/loss": 0.25, "seconds": 3.0}


def test_a_resumed_run_hands_over_no_row_twice(run):
    tracker = Recorded()
    with closing(Tracking(tracker, run)) as first:
        first.open(0)
        for step in (1, 2, 3):
            first.step(step_row(step))
        first.epoch(epoch_row(3))
        first.sync()
        first.step(step_row(4))
    with closing(Tracking(tracker, run)) as second:  # from the checkpoint after step 2
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


def test_an_epochs_row_is_not_taken_for_that_of_its_last_step(run):
    tracker = Recorded()
    for begin in (0, 0):  # killed between the two rows
        with closing(Tracking(tracker, run)) as part:
            part.open(begin)
            part.step(step_row(1))
            if tracker.rows:
                part.epoch(epoch_row(1))
    assert [(row.step, row.is_epoch) for row in tracker.rows] == [(1, False), (1, True)]


def test_another_tracker_begins_anew_on_resume(run):
    for text in ('{"tracker": "Recorded", "identity": 3, "step": 9, "is_epoch": false}', '["nonsense"]', "{" * 100_000):
        run.folder.tracker.write_text(text)
        tracker = Recorded()
        with closing(Tracking(tracker, run)) as started:
            started.open(4)
            started.step(step_row(5))
        assert tracker.begun == [(4, None)] and [row.step for row in tracker.rows] == [5]
    mark = {"tracker": "Recorded", "identity": "elsewhere", "step": 9, "is_epoch": False}
    run.folder.tracker.write_text(json.dumps(mark))
    tracker = Recorded()
    tracker.begin = lambda run, step, identity: "new"  # what knew the run isn't there any more
    with closing(Tracking(tracker, run)) as started:
        started.open(4)
        started.step(step_row(5))
    assert [row.step for row in tracker.rows] == [5] and json.loads(run.folder.tracker.read_text())["identity"] == "new"


def test_rows_are_handed_over_in_batches(run):
    tracker = Recorded()
    with closing(Tracking(tracker, run)) as many:
        many.open(0)
        for step in range(1, 20_001):
            many.step(step_row(step))
    assert tracker.calls == 100 and [row.step for row in tracker.rows] == list(range(1, 20_001))


def test_a_tracker_that_fails_is_warned_of_once_and_catches_up(run, caplog, monkeypatch):
    tracker = Recorded()
    with caplog.at_level(logging.WARNING), closing(Tracking(tracker, run)) as guarded:
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


def test_tensorboard_shows_each_step_once_and_epochs_apart(fit, tmp_path):
    fit("run", stop=5)
    fit("run", "trainer.resume=true")
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for name in ("train/loss", "train/grad_norm", "train/clip_threshold"):
        values = [float(row[name]) for row in rows(tmp_path / "run/steps.csv", "")]
        assert [event.step for event in events.Scalars(name)] == list(range(1, 9))
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values, rel=1e-6)
    epochs = rows(tmp_path / "run/epochs.csv", "")
    for name in ("train/loss", "valid/loss", "seconds"):
        shown = [(event.step, event.value) for event in events.Scalars(f"epoch/{name}")]
        assert shown == [(int(row["step"]), pytest.approx(float(row[name]), rel=1e-6)) for row in epochs]


def test_tensorboard_forgets_what_came_after_the_checkpoint(run):
    for begin, end, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        with closing(Tracking(TensorBoard(0), run)) as part:
            part.open(begin)
            for step in range(begin + 1, end + 1):
                part.step({"step": step, "train/loss": loss})
    events = EventAccumulator(str(run.folder.tensorboard)).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert shown == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]


def test_tensorboard_has_hyper_parameters_and_scores(run):
    with closing(Tracking(TensorBoard(0), run)) as tracked:
        tracked.open(0)
        tracked.step(step_row(1))
        tracked.finish({"test": {"si_sdr": 7.5}})
    events = EventAccumulator(str(run.folder.tensorboard)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("test/si_sdr")] == [(1, 7.5)]
    [content] = events.PluginTagToContent("hparams").values()
    start = HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["clip.p"].number_value == 10 and start.hparams["clip._target_"].string_value == "x"
    assert not run.folder.tracker.exists()


FAKE_WANDB = """
import os
calls = []
class Settings(dict):
    def __init__(self, **settings): super().__init__(settings)
class Run:
    summary = {}
    def log(self, values, step): calls.append(("log", step, values))
    def finish(self, exit_code): calls.append(("finish", exit_code))
def init(config, settings):
    calls.append(("init", config, settings, os.environ.get("WANDB_ERROR_REPORTING")))
    return Run()
"""
FAKE_MLFLOW = {
    "__init__": "",
    "exceptions": "class MlflowException(Exception): pass",
    "entities": """
from collections import namedtuple
Metric = namedtuple("Metric", "key value timestamp step")
Param = namedtuple("Param", "key value")
""",
    "tracking": """
import os
from types import SimpleNamespace
from mlflow.exceptions import MlflowException
calls, runs = [], []
class MlflowClient:
    def __init__(self, uri): calls.append(("client", uri, os.environ.get("MLFLOW_DISABLE_TELEMETRY")))
    def get_experiment_by_name(self, name): return None
    def create_experiment(self, name): return "1"
    def create_run(self, experiment, run_name, tags):
        runs.append(f"run{len(runs)}")
        calls.append(("create", run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id=runs[-1]))
    def update_run(self, run, status):
        if run not in runs:
            raise MlflowException("no such run")
        calls.append(("update", run, status))
    def log_batch(self, run, metrics=(), params=()):
        assert len(metrics) <= 1000 and len(params) <= 100
        calls.append(("batch", run, list(metrics), list(params)))
    def set_terminated(self, run, status): calls.append(("terminated", run, status))
""",
}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Packages of the trackers' names that keep what they are told."""
    site = tmp_path / "site"
    (site / "mlflow").mkdir(parents=True)
    (site / "wandb.py").write_text(FAKE_WANDB)
    for name, text in FAKE_MLFLOW.items():
        (site / "mlflow" / f"{name}.py").write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("wandb", "mlflow")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(site)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("wandb", "mlflow")]:
        del sys.modules[name]


def test_wandb_is_offline_and_captures_nothing_unless_asked(run, fakes):
    wandb = importlib.import_module("wandb")
    for scores in (None, {"test": {"si_sdr": 7.5}}):
        with closing(Tracking(build(compose_config("config", ["logger=wandb"]), "logger"), run)) as tracked:
            tracked.open(0)
            for step in (1, 2):
                tracked.step(step_row(step))
            tracked.epoch(epoch_row(2))
            if scores:
                tracked.step(step_row(3))
                tracked.finish(scores)
    [first, second] = [call for call in wandb.calls if call[0] == "init"]
    settings = first[2]
    assert first[1] == run.settings and first[3] == "false"
    assert (settings["mode"], settings["root_dir"]) == ("offline", str(run.folder.path))
    off = ("console", "off"), ("save_code", False), ("disable_code", True), ("disable_git", True), ("host", "")
    assert all(settings[name] == value for name, value in off)
    assert all(settings[name] for name in ("x_disable_stats", "x_disable_meta", "x_disable_machine_info"))
    assert settings["run_id"] == second[2]["run_id"] and settings["resume"] == "allow"
    assert [call[1] for call in wandb.calls if call[0] == "log"] == [1, 2, 2, 3]
    assert [call[1] for call in wandb.calls if call[0] == "finish"] == [1, 0]
    assert wandb.Run.summary == {"test/si_sdr": 7.5}
    assert Wandb("p", None, "online").mode == "online"
    with pytest.raises(InputError, match="logger.mode=on: expected one of offline, online"):
        Wandb("p", None, "on")


def test_mlflow_writes_a_file_in_few_calls_unless_asked(run, fakes):
    store = importlib.import_module("mlflow.tracking")
    with closing(Tracking(build(compose_config("config", ["logger=mlflow"]), "logger"), run)) as tracked:
        tracked.open(0)
        for step in range(1, 2001):
            tracked.step({**step_row(step), **{f"train/{name}": 0.0 for name in "abcd"}})
    assert store.calls[0] == ("client", f"sqlite:///{run.folder.mlflow.absolute()}", "true")
    assert store.calls[1] == ("create", "run", {})
    [params, *batches] = [call for call in store.calls if call[0] == "batch"]
    assert dict(params[3]) == {"clip.p": "10", "model.hidden_size": "8", "clip._target_": "x"}
    steps = [metric.step for batch in batches for metric in batch[2] if metric.key == "train/loss"]
    assert steps == list(range(1, 2001)) and len(batches) == 20
    assert store.calls[-1] == ("terminated", "run0", "KILLED")
    for logger in (MLflow("e", None), MLflow("e", "http://elsewhere")):
        store.calls.clear()
        if logger.tracking_uri:
            store.runs[:] = ["another's"]
        with closing(Tracking(logger, run)) as tracked:
            tracked.open(2000)
            tracked.step(step_row(2000))
            tracked.finish({"test": {"si_sdr": 7.5}})
        metrics = [metric for call in store.calls if call[0] == "batch" for metric in call[2]]
        known = logger.tracking_uri is None  # another server hasn't heard of the run, nor of its steps
        assert ("update", "run0", "RUNNING") in store.calls if known else ("create", "run", {}) in store.calls
        assert [metric.step for metric in metrics if metric.key == "train/loss"] == ([] if known else [2000])
        assert [metric[1::2] for metric in metrics if metric.key == "test/si_sdr"] == [(7.5, 2000)]
        assert store.calls[-1] == ("terminated", "run0" if known else "run1", "FINISHED")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_told_before_any_work(name, monkeypatch, tmp_path):
    (tmp_path / name).mkdir()  # of runs; no package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    with pytest.raises(InputError, match=rf'^logger={name}: {name} isn\'t installed; pip install "\.\[{name}\]"'):
        build(compose_config("config", [f"logger={name}"]), "logger")


def test_another_tracker_may_be_chosen_on_resume(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_config(compose_config("config", ["run_dir=x"]))
    assert folder.changed(compose_config("config", ["run_dir=x", "logger=mlflow", "logger.experiment=e"])) == []
    older = OmegaConf.masked_copy(folder.load_config(), [key for key in folder.load_config() if key != "logger"])
    folder.config.write_text(OmegaConf.to_yaml(older))
    assert folder.changed(compose_config("config", ["run_dir=x"])) == []


def in_sweep(sweep: Path, *overrides: str, subdir: str | None = None):
    """Settings as a job of a sweep has them."""
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        config = compose("config", [*overrides, f"run_dir={sweep}"], return_hydra_config=True)
    name = subdir or folder_name(",".join(sorted(overrides)))
    OmegaConf.update(config, "hydra", {"mode": "MULTIRUN", "sweep": {"subdir": name}}, force_add=True)
    OmegaConf.update(config, "hydra.job", {"override_dirname": ",".join(sorted(overrides))})
    OmegaConf.update(config, "hydra.runtime.output_dir", str(sweep / name), force_add=True)
    return config


def test_runs_of_a_sweep_are_named_by_what_differs(tmp_path, monkeypatch):
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        settings = [f"run_dir={tmp_path}", "clip.p=1,10", "data=fsdd", "data.root=/somewhere", "seed=range(3)"]
        config = compose("config", settings[:1], return_hydra_config=True)
    config.hydra.overrides.task = settings
    monkeypatch.setattr("separation.app.sweeps.heed", lambda handler: None)
    SweepReport().on_multirun_start(config)
    for subdir, name in ((None, "clip.p=1,seed=2"), ("known/p1_seed2", "known/p1_seed2")):
        job_config = in_sweep(tmp_path, "clip.p=1", "data=fsdd", "data.root=/somewhere", "seed=2", subdir=subdir)
        folder = RunFolder(tmp_path / job_config.hydra.sweep.subdir)
        run = tracked_run(folder, OmegaConf.masked_copy(job_config, ["clip", "seed", "data"]), job_config.hydra)
        assert (run.name, run.sweep) == (name, tmp_path)
    assert run.settings["clip.p"] == 1 and run.settings["seed"] == 2 and "data.root" not in run.settings


def test_what_a_sweeper_minimises(tmp_path, monkeypatch):
    config = in_sweep(tmp_path, "seed=2")
    config.hydra.job.num = 2
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: config.hydra))

    def diverges(*_):
        raise InputError("optimizer.lr: training diverged")

    assert job(lambda config, folder: 0.25)(config) == 0.25
    assert job(diverges)(config) == math.inf and (tmp_path / "errors.txt").read_text().startswith(
        "seed=2: optimizer.lr"
    )
    (tmp_path / ".stopped").touch()
    assert job(lambda config, folder: 0.25)(config) == math.inf


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("0.0123456", "best trial: clip.max_norm=0.5 (validation 0.012346, lower is better)"),
        (".inf", "best trial: none, since all"),
    ],
)
def test_a_sweeps_report_names_optunas_best_trial(value, line, tmp_path, capsys):
    config = in_sweep(tmp_path, "seed=2")
    results = f"name: optuna\nbest_params:\n  clip.max_norm: 0.5\nbest_value: {value}\n"
    (tmp_path / "optimization_results.yaml").write_text(results)
    SweepReport().on_multirun_end(config)
    assert line in capsys.readouterr().out


@pytest.mark.slow
def test_optuna_finds_what_can_be_trained_and_repeats_itself(speech_folder, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = ["--multirun", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=0"]
    arguments += ["data=folder", f"data.root={speech_folder}", "run_dir=sweep", *TINY, "evaluation.metrics=torch"]
    arguments += ["clip=fixed", "clip.max_norm=choice(-1,1)", "trainer.resume=true"]
    reports = []
    for _ in range(2):
        result = run_program("train.py", *arguments, cwd=tmp_path)
        assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr  # a negative threshold
        reports.append(result.stdout[result.stdout.index("\nsweep\n") :])
    assert reports[0] == reports[1] and "best trial: clip.max_norm=1 (validation " in reports[0]


def wandb_records(path: Path):
    """The records of wandb's file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    blob, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(blob):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768
        _, length, kind = struct.unpack("<IHB", blob[place : place + 7])
        part = blob[place + 7 : place + 7 + length]
        record, place = part if kind in (1, 2) else record + part, place + 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)


@pytest.mark.slow
def test_what_wandb_wrote_offline(fit, tmp_path):
    pytest.importorskip("wandb")
    fit("alone", "logger=csv")
    fit("run", "logger=wandb", stop=5)
    fit("run", "logger=wandb", "trainer.resume=true")
    assert_same(tmp_path / "alone", tmp_path / "run")
    parts = [list(wandb_records(path)) for path in sorted((tmp_path / "run/wandb").glob("offline-*/*.wandb"))]
    steps = {}
    for record in (record for records in parts for record in records if record.HasField("history")):
        values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        assert values["_step"] not in steps
        steps[values["_step"]] = values["train/loss"]
    assert steps == {int(row["step"]): float(row["train/loss"]) for row in rows(tmp_path / "run/steps.csv", "")}
    runs = [record.run for records in parts for record in records if record.HasField("run")]
    assert len({run.run_id for run in runs}) == 1 and {run.host for run in runs} == {""}


@pytest.mark.slow
def test_what_mlflow_wrote(fit, tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    fit("alone", "logger=csv")
    fit("run", "logger=mlflow", stop=5)
    fit("run", "logger=mlflow", "trainer.resume=true")
    assert_same(tmp_path / "alone", tmp_path / "run")
    client = MlflowClient(f"sqlite:///{tmp_path}/run/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("separation").experiment_id])
    assert run.data.params == {"clip.p": "10"} and set(run.data.tags) == {"mlflow.runName"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == [
        (int(row["step"]), float(row["train/loss"])) for row in rows(tmp_path / "run/steps.csv", "")
    ]


def test_a_sweep_without_its_sweeper_says_what_installs_it():
    from hydra.errors import HydraException

    assert 'pip install ".[optuna]"' in sentence(HydraException("Could not find 'hydra/sweeper/optuna'"))


def test_tensorboard_plays_validation_mixtures(run):
    """A sine of 1 kHz: its samples as they were, and the spectrogram's brightest row at its frequency."""
    samples = 0.25 * np.sin(2 * np.pi * 1000 * np.arange(8 * 8000) / 8000).astype(np.float32)
    signals = [Signal(f"valid_1/{name}", samples, 8000) for name in ("mixture", "estimate_1")]
    with closing(Tracking(TensorBoard(2), run)) as tracked:
        tracked.open(0)
        assert tracked.num_examples == 2
        for step in (10, 20):
            tracked.show(step, signals)
    events = EventAccumulator(str(run.folder.tensorboard), {"images": 0, "audio": 0}).Reload()
    assert [event.step for event in events.Audio("valid_1/estimate_1")] == [10, 20]
    assert [event.step for event in events.Audio("valid_1/mixture")] == [10]  # it stays as it is
    heard, rate = soundfile.read(io.BytesIO(events.Audio("valid_1/estimate_1")[0].encoded_audio_string))
    assert rate == 8000 and len(heard) == 4 * 8000
    np.testing.assert_allclose(heard, samples[: len(heard)], atol=2**-15)
    image = plt.imread(io.BytesIO(events.Images("valid_1/estimate_1")[0].encoded_image_string))
    assert image.shape[:2] == (129, 4 * 125 + 1)
    assert image[..., :3].sum(-1).mean(1).argmax() == 128 - 32  # bins of 31.25 Hz, the lowest below
