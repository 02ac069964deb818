"""What TensorBoard, wandb and MLflow make of a run."""

import importlib
import io
import json
import struct
import sys
from contextlib import closing
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
from conftest import assert_same, epoch_row, rows, step_row
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from separation.app.assembly import build
from separation.app.settings import compose_config
from separation.errors import InputError
from separation.training.trackers.mlflow import MLflow
from separation.training.trackers.tensorboard import TensorBoard
from separation.training.trackers.tracker import Signal
from separation.training.trackers.tracking import Tracking
from separation.training.trackers.wandb import Wandb


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


def test_tensorboard_forgets_what_came_after_the_checkpoint(tracked_run):
    for begin, end, loss in ((0, 5, 1.0), (3, 6, 2.0)):
        with closing(Tracking(TensorBoard(0), tracked_run)) as part:
            part.open(begin)
            for step in range(begin + 1, end + 1):
                part.step({"step": step, "train/loss": loss})
    events = EventAccumulator(str(tracked_run.folder.tensorboard)).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert shown == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]


def test_tensorboard_has_hyper_parameters_and_scores(tracked_run):
    with closing(Tracking(TensorBoard(0), tracked_run)) as tracked:
        tracked.open(0)
        tracked.step(step_row(1))
        tracked.finish({"test": {"si_sdr": 7.5}})
    events = EventAccumulator(str(tracked_run.folder.tensorboard)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("test/si_sdr")] == [(1, 7.5)]
    [content] = events.PluginTagToContent("hparams").values()
    start = HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["clip.p"].number_value == 10 and start.hparams["clip._target_"].string_value == "x"
    assert not tracked_run.folder.tracker.exists()


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


def test_wandb_is_offline_and_captures_nothing_unless_asked(tracked_run, fakes):
    wandb = importlib.import_module("wandb")
    for scores in (None, {"test": {"si_sdr": 7.5}}):
        with closing(Tracking(build(compose_config("config", ["logger=wandb"]), "logger"), tracked_run)) as tracked:
            tracked.open(0)
            for step in (1, 2):
                tracked.step(step_row(step))
            tracked.epoch(epoch_row(2))
            if scores:
                tracked.step(step_row(3))
                tracked.finish(scores)
    [first, second] = [call for call in wandb.calls if call[0] == "init"]
    settings = first[2]
    assert first[1] == tracked_run.settings and first[3] == "false"
    assert (settings["mode"], settings["root_dir"]) == ("offline", str(tracked_run.folder.path))
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


def test_mlflow_writes_a_file_in_few_calls_unless_asked(tracked_run, fakes):
    store = importlib.import_module("mlflow.tracking")
    with closing(Tracking(build(compose_config("config", ["logger=mlflow"]), "logger"), tracked_run)) as tracked:
        tracked.open(0)
        for step in range(1, 2001):
            tracked.step({**step_row(step), **{f"train/{name}": 0.0 for name in "abcd"}})
    assert store.calls[0] == ("client", f"sqlite:///{tracked_run.folder.mlflow.absolute()}", "true")
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
        with closing(Tracking(logger, tracked_run)) as tracked:
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


def test_tensorboard_plays_validation_mixtures(tracked_run):
    """A sine of 1 kHz: its samples as they were, and the spectrogram's brightest row at its frequency."""
    samples = 0.25 * np.sin(2 * np.pi * 1000 * np.arange(8 * 8000) / 8000).astype(np.float32)
    signals = [Signal(f"valid_1/{name}", samples, 8000) for name in ("mixture", "estimate_1")]
    with closing(Tracking(TensorBoard(2), tracked_run)) as tracked:
        tracked.open(0)
        assert tracked.num_examples == 2
        for step in (10, 20):
            tracked.show(step, signals)
    events = EventAccumulator(str(tracked_run.folder.tensorboard), {"images": 0, "audio": 0}).Reload()
    assert [event.step for event in events.Audio("valid_1/estimate_1")] == [10, 20]
    assert [event.step for event in events.Audio("valid_1/mixture")] == [10]  # it stays as it is
    tags = events.Tags()
    assert len(tags["audio"]) == len(tags["images"]) == 2 and not set(tags["audio"]) & set(tags["images"])
    heard, rate = soundfile.read(io.BytesIO(events.Audio("valid_1/estimate_1")[0].encoded_audio_string))
    assert rate == 8000 and len(heard) == 4 * 8000
    np.testing.assert_allclose(heard, samples[: len(heard)], atol=2**-15)
    image = plt.imread(io.BytesIO(events.Images("valid_1/estimate_1_spectrogram")[0].encoded_image_string))
    assert image.shape[:2] == (129, 4 * 125 + 1)
    assert image[..., :3].sum(-1).mean(1).argmax() == 128 - 32  # bins of 31.25 Hz, the lowest below


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
