"""Small corpora and runs that tests share; everything is made here, nothing is downloaded."""

import csv
import io
import logging
import math
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra.core.singleton import Singleton

import separation
from separation.app.assembly import build, build_parts
from separation.app.settings import compose_config
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.studies.run_table import CHOICES, PROVENANCE, RESULTS, RUN_COLUMNS
from separation.training.interruption import SIGNALS, Interrupted, Interruption
from separation.training.processes import Processes
from separation.training.step import TrainingParts
from separation.training.trackers.tracker import TrackedRun
from separation.training.trackers.tracking import Tracking

CPU = torch.device("cpu")
ROOT = Path(__file__).parent.parent
STUDIES = ("-m", "separation.studies")
TINY = [
    "model.hidden_size=8",
    "model.num_layers=1",
    "trainer.max_steps=3",
    "trainer.batch_size=2",
    "trainer.excerpt_frames=20",
    "data.num_train=4",
    "data.num_valid=2",
    "data.num_test=2",
    "threads=1",
    "report=false",
]
"""Overrides that shrink any run to about a second."""
MODELS = {
    **dict.fromkeys(("mask_inference", "waveform", "deep_clustering", "whitened_kmeans", "chimera"), TINY[:2]),
    "conv_tasnet": ["model.enc_num_feats=8", "model.msk_num_layers=2"],
    "dprnn": ["model.hidden_size=8", "model.num_blocks=1"],
    "tf_gridnet": ["model.hidden_size=8", "model.num_blocks=1"],
}
"""Overrides that shrink each model."""
BLANK_RUN = dict.fromkeys((*RUN_COLUMNS, *RESULTS, "model.hidden_size"), 1.0) | dict.fromkeys(
    (*CHOICES, *PROVENANCE), "x"
)
"""A row of a table of runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make stress` asks for more of both."""
    parser.addoption("--kills", type=int, default=3, help="how often tests/test_kills.py kills the run")
    parser.addoption("--inputs", type=int, default=1200, help="how many inputs tests/test_fuzz.py makes in all")


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test, nor a program that one starts, touches the user's cache."""
    folder = tmp_path_factory.mktemp("cache_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def voice(pitch: float, seconds: float, rate: int, seed: int) -> np.ndarray:
    """Something like a voice: harmonics of a wavering pitch, interrupted by pauses, shape (time,)."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 3 * time + random.uniform(0, 6)))) / rate
    tone = sum(np.sin(n * phase) / n for n in range(1, 8))
    syllables = 0.55 + 0.45 * np.sign(np.sin(2 * np.pi * random.uniform(1, 3) * time + random.uniform(0, 6)))
    return (0.1 * tone * syllables + 1e-4 * random.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers, six recordings each, 8 kHz PCM16."""
    root = tmp_path_factory.mktemp("speech")
    for speaker, pitch in {"anna": 220, "bert": 110, "carl": 140, "dora": 260}.items():
        (root / speaker).mkdir()
        for number in range(6):
            samples = voice(pitch, 0.8 + 0.1 * number, 8000, seed=pitch + number)
            soundfile.write(root / speaker / f"{number}.wav", samples, 8000)
    return root


def run_program(program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs an entry point as a user would, in a process of its own: a script, or "-m" and a module."""
    command = [sys.executable, program if program == "-m" else str(ROOT / program), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@contextmanager
def _kept_state() -> Iterator[None]:
    """What Hydra and the programs change in a process is as before afterwards."""
    hydra = Singleton.get_state()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    environment = dict(os.environ)
    on_signals = {number: signal.getsignal(number) for number in SIGNALS}
    root.handlers[:] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
        patch.setattr(sys, "argv", sys.argv)
        patch.setattr(sys, "path", sys.path[:])
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            for number, handler in on_signals.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(environment)
            Singleton.set_state(hydra)


def call_program(program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs an entry point within this process, which spares the seconds that a program needs to start."""
    output, errors = io.StringIO(), io.StringIO()
    status: object = 0
    with _kept_state(), chdir(cwd), redirect_stdout(output), redirect_stderr(errors):
        words = [str(argument) for argument in arguments]
        try:
            if program == "-m":
                sys.argv = words
                runpy.run_module(words[0], run_name="__main__", alter_sys=True)
            else:
                sys.argv = [str(ROOT / program), *words]
                sys.path.insert(0, str((ROOT / program).parent))
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except Exception:
            traceback.print_exc()
            status = 1
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory, speech_folder: Path):
    """Trains a tiny run and returns its folder; one for each tuple of overrides."""
    runs: dict[tuple[str, ...], Path] = {}
    work = tmp_path_factory.mktemp("runs")

    def make(*overrides: str) -> Path:
        if overrides not in runs:
            name = f"run{len(runs)}"
            arguments = ["data=folder", f"data.root={speech_folder}", f"run_dir={name}", *TINY, *overrides]
            with chdir(work):
                separation.train(arguments)  # in this process: a program of its own needs several seconds to start
            runs[overrides] = work / name
        return runs[overrides]

    return make


@pytest.fixture
def make_parts(speech_folder: Path, tmp_path: Path):
    """What a tiny training run holds, for some overrides."""

    def make(*overrides: str, device: torch.device = CPU) -> TrainingParts:
        settings = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/cache", "trainer.max_steps=9"]
        model = next((text.removeprefix("model=") for text in overrides if text.startswith("model=")), "mask_inference")
        config = compose_config("config", [*settings, *MODELS[model], *overrides])
        return build_parts(config, device, Processes())

    return make


RESUMED = ["model.num_layers=2", "model.dropout=0.3", "data.num_train=6", "trainer.max_steps=8"]
"""Three steps an epoch, so that the run ends within one."""


class StopAt(Interruption):
    """A signal that comes after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def asked(self) -> int:
        self.left -= 1  # asked once a step
        return signal.SIGTERM if self.left < 0 else 0


@pytest.fixture
def fit(speech_folder, tmp_path):
    """Trains into a folder, in this process; returns its parts, or None where it was interrupted."""

    def run(name: str, *overrides: str, stop: int | None = None) -> TrainingParts | None:
        common = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/cache", f"run_dir={name}"]
        config = compose_config("config", [*common, *TINY, *RESUMED, "trainer.progress=false", *overrides])
        trainer = build(config, "trainer")
        parts = build_parts(config, torch.device("cpu"), Processes())
        logger = build(config, "logger")
        with (
            RunFolder.create(tmp_path / name, config, trainer.resume) as folder,
            closing(Tracking(logger, TrackedRun(folder, None, name, {"clip.p": 10}))) as tracking,
        ):
            try:
                trainer.fit(parts, folder, Interruption() if stop is None else StopAt(stop - 1), tracking)
            except Interrupted:
                return None
        return parts

    return run


def rows(path: Path, without: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{key: value for key, value in row.items() if key != without} for row in csv.DictReader(file)]


def assert_same(first: Path, second: Path) -> None:
    """Bit for bit: everything in the checkpoints but times, and every row of both tables but times."""

    def compare(a: object, b: object, key: str) -> None:
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), key
        elif isinstance(a, dict):
            assert set(a) == set(b), key
            for name in a:
                compare(a[name], b[name], f"{key}.{name}")
        elif isinstance(a, list | tuple):
            assert len(a) == len(b), key
            for i, pair in enumerate(zip(a, b, strict=True)):
                compare(*pair, f"{key}.{i}")
        elif key != ".progress.seconds":
            assert a == b, key

    for name in ("last.pt", "best.pt"):
        states = [checkpoint.load(path / "checkpoints" / name, torch.device("cpu")) for path in (first, second)]
        compare(*states, "")
    assert rows(first / "steps.csv", "train/seconds") == rows(second / "steps.csv", "train/seconds")
    assert rows(first / "epochs.csv", "seconds") == rows(second / "epochs.csv", "seconds")


@pytest.fixture
def tracked_run(tmp_path: Path) -> TrackedRun:
    return TrackedRun(RunFolder(tmp_path), None, "run", {"clip.p": 10, "model.hidden_size": 8, "clip._target_": "x"})


def step_row(step: int) -> dict[str, float]:
    return {"step": step, "epoch": 0, "train/loss": 1 / step, "train/grad_norm": math.nan}


def epoch_row(step: int) -> dict[str, float]:
    return {"epoch": 1, "step": step, "train/loss": 0.5, "valid/loss": 0.25, "seconds": 3.0}
