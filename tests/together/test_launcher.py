"""`hydra/launcher=together`, beside a launcher that runs one job after another."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT, TINY, assert_same, call_program
from omegaconf import OmegaConf

from separation.app import together
from separation.app.settings import compose_config
from separation.training.together.shared_mixtures import SharedMixtures

SWEEP = ["--multirun", "hydra.sweep.subdir=${hydra.job.num}", "data=folder", *TINY, "evaluation.metrics=torch"]


def sweep(speech_folder, path, *overrides: str):
    arguments = [*SWEEP, f"data.root={speech_folder}", f"run_dir={path.name}", *overrides]
    return call_program("train.py", *arguments, cwd=path.parent)


def numbers(path) -> list[list[str]]:
    """A table's columns, without the seconds."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [number for number, name in enumerate(rows[0]) if "seconds" not in name]
    return [[row[number] for number in kept] for row in rows]


@pytest.fixture(scope="module")
def alone(speech_folder, tmp_path_factory):
    """Two seeds, with AutoClip and without clipping, one job after another."""
    path = tmp_path_factory.mktemp("alone") / "runs"
    result = sweep(speech_folder, path, "clip=autoclip,none", "seed=0,1")
    assert result.returncode == 0, result.stderr
    return path


def test_run_folders_are_those_of_the_runs_alone(alone, speech_folder, tmp_path):
    result = sweep(speech_folder, tmp_path / "runs", "clip=autoclip,none", "seed=0,1", "hydra/launcher=together")
    assert result.returncode == 0, result.stderr
    assert "4 runs train as one" in result.stdout and result.stdout.count("done") == 4
    for number in range(4):
        run, other = tmp_path / "runs" / str(number), alone / str(number)
        assert_same(run, other)
        assert (run / "scores.csv").read_bytes() == (other / "scores.csv").read_bytes()
        assert {path.name for path in run.iterdir()} == {path.name for path in other.iterdir()}
        log = (run / "train.log").read_text()
        assert log.count("epoch 1:") == 1 and f"runs/{number}: " in log  # its own lines only


def test_stacked_runs_are_close_and_go_on_alone(alone, speech_folder, tmp_path):
    options = ["hydra/launcher=together", "hydra.launcher.stacked=true"]
    result = sweep(speech_folder, tmp_path / "runs", "clip=autoclip,none", "seed=0,1", *options)
    assert result.returncode == 0, result.stderr
    for number in range(4):
        rows, others = (numbers(path / str(number) / "steps.csv") for path in (tmp_path / "runs", alone))
        for row, other in zip(rows[1:], others[1:], strict=True):
            assert [float(value) for value in row] == pytest.approx([float(value) for value in other], rel=1e-3)
    result = call_program("train.py", f"resume={tmp_path}/runs/1", "trainer.max_steps=4", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(numbers(tmp_path / "runs/1/steps.csv")) == 5


def test_what_fits_no_group_runs_alone_and_a_failed_run_leaves_the_others(alone, speech_folder, tmp_path):
    given = ["model.num_layers=1,2", "model.dropout=0,0.3", "optimizer.lr=2e-3,inf", "hydra/launcher=together"]
    result = sweep(speech_folder, tmp_path / "runs", *given)
    assert result.returncode == 1
    assert "model.dropout=0.3: all runs would draw from one sequence of random numbers" in result.stdout
    errors = (tmp_path / "runs/errors.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in sorted(errors)] == ["1", "3", "5", "7"]
    assert all("optimizer.lr: training diverged" in line for line in errors)
    assert_same(tmp_path / "runs/0", alone / "0")


def test_a_stopped_group_goes_on_as_one(speech_folder, tmp_path):
    arguments = [*SWEEP, f"data.root={speech_folder}", "hydra/launcher=together", "seed=0,1", "trainer.resume=true"]
    arguments += ["data.num_train=40", f"data.store={tmp_path}/store"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "trainer.max_steps=100000", "run_dir=stopped"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        steps = [tmp_path / f"stopped/{number}/steps.csv" for number in (0, 1)]
        while not all(path.is_file() and len(path.read_text().splitlines()) > 5 for path in steps):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "trainer.resume=true goes on" in errors, errors
    counts = [len(path.read_text().splitlines()) - 1 for path in steps]
    assert counts[0] == counts[1]
    more = [*arguments, f"trainer.max_steps={counts[0] + 3}"]
    for name in ("stopped", "whole"):
        result = call_program("train.py", *more, f"run_dir={name}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    for number in (0, 1):
        assert numbers(tmp_path / f"stopped/{number}/steps.csv") == numbers(tmp_path / f"whole/{number}/steps.csv")


def test_groups_are_no_larger_than_they_may_be(speech_folder, tmp_path):
    options = ["seed=0,1,2", "hydra/launcher=together", "hydra.launcher.max_runs=2"]
    result = sweep(speech_folder, tmp_path / "runs", *options)
    assert result.returncode == 0 and result.stdout.count("2 runs train as one") == 1, result.stderr
    result = sweep(speech_folder, tmp_path / "none", "seed=0,1", *options[1:2], "hydra.launcher.max_runs=0")
    assert result.returncode == 1 and "hydra.launcher.max_runs=0: expected a whole number" in result.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=conv_tasnet", "separation.model.conv_tasnet.ConvTasNet has no BLSTM layers of known names"),
        ("model.dropout=0.1", "model.dropout=0.1: all runs would draw"),
        ("trainer.precision=fp16", "trainer.precision=fp16"),
        ("trainer.accumulate=2", "trainer.accumulate=2"),
        ("clip=zclip", ""),
    ],
)
def test_a_job_that_trains_alone_says_why(override, words):
    assert words in together.why_alone(compose_config("config", [override]))
    assert bool(words) == bool(together.why_alone(compose_config("config", [override])))


def test_shapes_differ_in_what_the_steps_share():
    def shape(*overrides: str) -> str:
        return together.shape(compose_config("config", list(overrides)))

    assert shape() == shape("seed=3", "clip=fixed", "clip.max_norm=5", "optimizer.lr=1", "loss_scale=2", "run_dir=x")
    assert shape() == shape("model=waveform", "trainer.max_steps=9")  # the same network
    for other in (
        "model.hidden_size=9",
        "trainer.batch_size=9",
        "data.voices=3",
        "optimizer=muon",
        "stft.hop_length=9",
    ):
        assert shape(other) != shape()


def test_as_many_runs_as_the_memory_holds(monkeypatch):
    config = compose_config("config", ["device=cpu"])
    size = together.num_bytes(config)
    memory = OmegaConf.create({"available": int(3.5 * size / together.USABLE)})
    monkeypatch.setattr(together.psutil, "virtual_memory", lambda: memory)
    assert together.num_fitting(config) == 3
    memory.available = size // 2
    assert together.num_fitting(config) == 1
    memory.available = 1000 * size
    monkeypatch.setattr(together.resource, "getrlimit", lambda _: (64, 64))
    assert together.num_fitting(config) == (64 - 50) // 8


@pytest.mark.parametrize("wrong", ["trainer.batch_size=2,x", "model.num_layers=1,two", "device=cpu,foo"])
def test_wrong_settings_are_each_runs_own(wrong, alone, speech_folder, tmp_path):
    result = sweep(speech_folder, tmp_path / "runs", wrong, "seed=0,1", "hydra/launcher=together")
    assert result.returncode == 1
    errors = (tmp_path / "runs/errors.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in sorted(errors)] == ["2", "3"]
    assert "2 runs train as one" in result.stdout and result.stdout.count("done") == 2


def test_what_hydra_means_is_each_runs_own(speech_folder, tmp_path):
    given = ["seed=0,1", "hydra/launcher=together", "+note=${hydra:job.num}"]
    result = sweep(speech_folder, tmp_path / "runs", *given)
    assert result.returncode == 0, result.stderr
    for number in (0, 1):
        assert f"note: {number}" in (tmp_path / f"runs/{number}/config.yaml").read_text()


def test_readers_of_one_list_get_the_same_batches(make_parts):
    parts = make_parts("data.num_train=20")
    shared = SharedMixtures(parts.data.train)
    batch = shared.excerpts(range(2), 800, 1)
    assert shared.excerpts(range(2), 800, 1) is batch and shared.excerpts(range(2), 800, 0) is not batch
    assert torch.equal(batch.sources, parts.data.train.excerpts(range(2), 800, 1).sources)
    for first in range(10):
        shared.excerpts(range(first, first + 1), 800)
    assert torch.equal(shared.excerpts(range(2), 800, 1).sources, batch.sources)
    assert len(shared) == 20 and shared.draw(3) == parts.data.train.draw(3)
