"""`import separation`: what the three programs do, from Python."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, TINY, voice
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from test_resume import rows

import separation
from separation.app import evaluate, separate
from separation.app.resuming import resumes
from separation.app.settings import compose_config
from separation.app.train import start


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A stereo recording at 22,050 Hz."""
    mixture = voice(120, 1.5, 22050, 0) + voice(230, 1.5, 22050, 1)
    soundfile.write(tmp_path / "talk.wav", np.stack([mixture, 0.5 * mixture], 1), 22050, subtype="FLOAT")
    return tmp_path / "talk.wav"


def outside() -> tuple[object, ...]:
    """What belongs to the caller."""
    loggers = [logging.getLogger(name) for name in (None, "separation")]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    levels = [(logger.level, list(logger.handlers)) for logger in loggers]
    return os.getcwd(), levels, handlers, logging.raiseExceptions, GlobalHydra.instance().hydra


def test_training_gives_the_programs_files_and_leaves_the_caller_alone(make_run, speech_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().hydra = "the caller's"
    try:
        before = outside()
        runs = [separation.train(["data=folder", f"data.root={speech_folder}", *TINY]) for _ in range(2)]
        thread = threading.Thread(
            target=lambda: runs.append(
                separation.train(["data=folder", f"data.root={speech_folder}", *TINY, "run_dir=in a thread"])
            )
        )
        thread.start()
        thread.join()
        assert outside() == before
    finally:
        GlobalHydra.instance().clear()
    assert len({run.path for run in runs}) == 3 and all(run.path.is_dir() for run in runs)
    for run in runs:
        assert (run.path / "scores.csv").read_bytes() == (make_run() / "scores.csv").read_bytes()
        assert rows(run.path / "steps.csv", "train/seconds") == rows(make_run() / "steps.csv", "train/seconds")
        assert run.summary == json.loads((run.path / "summary.json").read_text())
        assert "epoch 2" in (run.path / "train.log").read_text()


def test_evaluating_gives_the_programs_files(make_run, speech_folder, tmp_path, monkeypatch, capsys):
    summary = separation.evaluate(make_run(), [f"output={tmp_path}/my scores", "metrics=torch"])
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(make_run()), f"output={tmp_path}/theirs", "metrics=torch"])
    evaluate.main()
    assert f"{tmp_path}/theirs" in capsys.readouterr().out
    assert (tmp_path / "my scores/scores.csv").read_bytes() == (tmp_path / "theirs/scores.csv").read_bytes()
    assert summary == json.loads((tmp_path / "my scores/summary.json").read_text())
    data = ["data=folder", f"data.root={speech_folder}", "data.num_test=2"]
    oracle = separation.evaluate(None, ["oracle=mixture", f"output={tmp_path}/oracle", *data])
    assert oracle["si_sdr_improvement"] == pytest.approx(0, abs=1e-6)


def test_separating_gives_the_programs_samples(make_run, talk, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["separate.py", str(make_run()), str(talk), f"output={talk.parent}/out"])
    separate.main()
    written = [soundfile.read(talk.parent / f"out/talk_source{n}.wav", dtype="float32")[0].T for n in (1, 2)]
    model = separation.load(make_run(), ["device=cpu"])
    assert (model.num_sources, model.sample_rate) == (2, 8000)
    sources = model.separate(talk)
    assert sources.dtype == torch.float32 and torch.equal(sources, torch.from_numpy(np.stack(written)))
    samples, rate = soundfile.read(talk, dtype="float32")
    for given in (samples.T, torch.from_numpy(samples.T), samples.T.astype(float)):
        assert torch.equal(model.separate(given, rate), sources)
    left = model.separate(samples[:, 0], rate)
    assert left.shape == (2, len(samples)) and torch.equal(model.separate(samples[None, :, 0], rate)[:, 0], left)
    soundfile.write(talk, samples[:, 0], rate, subtype="FLOAT")
    assert torch.equal(model.separate(str(talk)), left)
    short = separation.load(make_run(), ["segment_seconds=1.0", "overlap_seconds=0.5", "pause_seconds=0.5"])
    assert not torch.equal(short.separate(talk), left)


@pytest.mark.parametrize(
    ("recording", "rate", "message"),
    [
        (np.zeros(9), None, "rate=None: expected a whole number from 4000 to 768000"),
        (np.zeros(9), 8000.0, "rate=8000.0: expected a whole number"),
        (np.zeros((800, 2)), 8000, r"samples of shape \(time,\) or \(channel, time\), not \(800, 2\)"),
        (np.zeros((1, 2, 9)), 8000, r"not \(1, 2, 9\)"),
        (np.zeros(0), 8000, r"not \(0,\)"),
        (np.zeros(9, dtype=np.int16), 8000, "not int16 samples; convert it"),
        (torch.zeros(9, dtype=torch.complex64), 8000, "not complex64 samples"),
        ([0.0, 1.0], 8000, "not list"),
        (np.full(9, np.nan), 8000, "holds NaN or infinite samples"),
        ("nowhere.wav", None, "nowhere.wav: can't be read as audio"),
        ("", None, "recording=: expected a path"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence(recording, rate, message, make_run):
    with pytest.raises(separation.InputError, match=message):
        separation.load(make_run()).separate(recording, rate)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: separation.train(["clip.q=3"]), "clip.q: there is no such setting; clip has p"),
        (lambda: separation.train(["clip=null"]), "null is no choice of a group"),
        (lambda: separation.train(["data=folder"]), "data.root: has no value"),
        (lambda: separation.train(["clip.p=1,10"]), "To sweep over it"),
        (lambda: separation.train(["trainer.max_steps=no"]), "trainer.max_steps=no: expected a whole number"),
        (lambda: separation.train("clip.p=25"), "overrides='clip.p=25': expected a list of settings"),
        (lambda: separation.train(["--multirun"]), "expected a list of settings"),
        (lambda: separation.train(["hydra.run.dir=x"]), "expected a list of settings"),
        (lambda: separation.train(["run_dir=/proc/x"]), "run_dir=/proc/x: can't be written"),
        (lambda: separation.evaluate("nowhere"), "run=nowhere: is no run folder"),
        (lambda: separation.evaluate(None), "run: has no value"),
        (lambda: separation.load("nowhere"), "run=nowhere: is no run folder"),
        (lambda: separation.load("nowhere", ["segments=1"]), "segments: there is no such setting"),
    ],
)
def test_bad_input_is_an_input_error(call, message):
    with pytest.raises(separation.InputError, match=message):
        call()


def test_options_beside_resume_are_refused(tmp_path):
    assert resumes(["resume=x", "seed=1", "~clip.p"]) and not resumes(["resume=null"])
    for option in ("--multirun", "hydra.run.dir=x", "-cn=x"):
        assert not resumes(["resume=x", option])  # so that Hydra composes them
    config = compose_config("config", ["resume=x"])
    with pytest.raises(separation.InputError, match="resume=x: takes single settings beside it"):
        start(config, tmp_path, HydraConf())


def test_importing_is_cheap_and_says_what_there_is():
    code = "import sys, separation; separation.InputError; print('torch' in sys.modules, 'hydra' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"
    assert set(separation.__all__) == {"InputError", "evaluate", "load", "train"}
    with pytest.raises(AttributeError, match="module 'separation' has no attribute 'sing'"):
        _ = separation.sing
