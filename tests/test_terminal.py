"""What a run shows on a terminal of 80 columns."""

import math
import os
import pty
import re
import subprocess
import sys

import pytest
from conftest import ROOT, TINY

from separation.training.counters import Progress
from separation.training.recorder import _in_short
from separation.training.trainer import Trainer, _Run


@pytest.mark.parametrize(
    ("loss", "norm", "threshold", "text"),
    [
        (0.00054285, 0.00123, math.inf, "loss 0.000543, norm 0.0012"),
        (0.00054285, 0.00123, 0.00089, "loss 0.000543, norm 0.0012 > 0.00089"),
        (-12.345, 0.5, 0.75, "loss -12.3, norm 0.5 < 0.75"),
        (math.nan, math.nan, 0.75, "loss nan, norm nan < 0.75"),
    ],
)
def test_a_step_in_short(loss, norm, threshold, text):
    row = {"train/loss": loss, "train/grad_norm": norm, "train/clip_threshold": threshold}
    assert _in_short(row) == text


def test_an_epoch_in_a_line():
    run = object.__new__(_Run)
    run.settings, run.progress = object.__new__(Trainer), Progress(best_loss=0.000513)
    object.__setattr__(run.settings, "monitor", "loss")
    row = {"epoch": 12, "step": 6000, "train/loss": 0.00054285, "valid/loss": 0.00052011, "valid/si_sdr": 11.874}
    row |= {"train/clipped_fraction": 0.9, "train/skipped_steps": 0, "seconds": 1552.3}
    line = run._describe(row, is_best=False)
    assert line == "epoch 12: 1552 s, loss 0.000543, valid 0.00052 (best 0.000513), 11.87 dB, clip 90%"
    row |= {"train/clipped_fraction": 0.0, "train/skipped_steps": 2, "valid/si_sdr": math.nan}
    assert run._describe(row, is_best=True) == (
        "epoch 12: 1552 s, loss 0.000543, valid 0.00052 (best), 2 steps left out"
    )
    run.progress.best_loss = -12.5
    object.__setattr__(run.settings, "monitor", "si_sdr")
    assert "valid 0.00052, 11.87 dB (best 12.5)" in run._describe({**row, "valid/si_sdr": 11.874}, is_best=False)


@pytest.mark.slow
def test_lines_stand_above_the_bar(speech_folder, tmp_path):
    """In a terminal: no line begins behind a bar, and none is longer than the terminal is wide."""
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "trainer.max_steps=6"]
    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=tmp_path, stdout=follower, stderr=follower, env=environment,
    )  # fmt: skip
    os.close(follower)
    written = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        if not data:
            break
        written += data
    os.close(leader)
    assert process.wait() == 0
    lines = [re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", part) for part in re.split(r"[\r\n]+", written.decode())]
    epochs = [line for line in lines if "epoch " in line]
    assert len(epochs) == 3 and all(line.startswith("epoch ") for line in epochs)
    assert all(len(line.rstrip()) <= 80 for line in lines if "epoch" in line or "left," in line)
