"""Several processes train as one does."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY

from separation.training.processes import Processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def torchrun(count: int, program: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, "--standalone", f"--nproc-per-node={count}", str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_parts_cover_a_range_once():
    for count in (1, 2, 3, 5):
        parts = [Processes(rank, count).part(range(10, 21)) for rank in range(count)]
        assert [i for part in parts for i in part] == list(range(10, 21))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        # Means over the parts, weighted so, have the mean over everything as their mean.
        weights = [Processes(rank, count).mean_weight(11) for rank in range(count)]
        assert sum(w * np.mean(part) for w, part in zip(weights, parts, strict=True)) / count == pytest.approx(15)


@pytest.mark.slow
def test_one_two_and_four_processes_take_the_same_steps(speech_folder, tmp_path):
    settings = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/cache", *TINY]
    settings += ["trainer.batch_size=6", "trainer.max_steps=200", "data.num_train=120", "trainer.progress=false"]
    settings += ["scheduler=warmup_cosine", "scheduler.warmup_steps=9", "trainer.ema=0.9"]
    in_parts = {2: ["trainer.accumulate=3"]}  # of three mixtures each
    losses, thresholds, states = {}, {}, {}
    for count in (1, 2, 4):
        output = tmp_path / str(count)
        output.mkdir()
        arguments = [*settings, *in_parts.get(count, []), f"run_dir={output}/run"]
        result = torchrun(count, ROOT / "tests/joint_training.py", output, *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        rows = read(output / "run/steps.csv")
        losses[count], thresholds[count] = (
            np.array([float(row[f"train/{key}"]) for row in rows]) for key in ("loss", "clip_threshold")
        )
        states[count] = [torch.load(output / f"{rank}.pt", weights_only=True) for rank in range(count)]
    for count in (2, 4):
        np.testing.assert_allclose(losses[count][:50], losses[1][:50], rtol=1e-6)
        np.testing.assert_allclose(losses[count], losses[1], rtol=1e-3)
        np.testing.assert_allclose(thresholds[count], thresholds[1], rtol=1e-3)
        for state in states[count][1:]:  # the ranks agree bit for bit
            for kind in ("network", "averaged"):
                for name, value in state[kind].items():
                    assert torch.equal(value, states[count][0][kind][name]), name
            assert str(state["clipper"]) == str(states[count][0]["clipper"])
        running = "separation_model.layers.normalization.batch_norm.running_var"
        for kind in ("network", "averaged"):
            torch.testing.assert_close(states[count][0][kind][running], states[1][0][kind][running])


@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_another_number_goes_on(speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "trainer.batch_size=4"]
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", str(ROOT / "train.py"), *arguments]
    log = tmp_path / "run/train.log"
    with subprocess.Popen(
        [*command, "trainer.max_steps=1000000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (log.is_file() and "epoch 3" in log.read_text()):
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "error: torchrun: process 0 of 2 lost another one" in error or "stopped by SIGTERM" in error, error
    state = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)
    step = state["progress"]["step"]
    result = torchrun(
        3, ROOT / "train.py", *arguments, f"trainer.max_steps={step + 4}", "trainer.resume=true", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert [row["step"] for row in read(tmp_path / "run/steps.csv")] == [str(n + 1) for n in range(step + 4)]
    assert len(read(tmp_path / "run/scores.csv")) == 4
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["num_mixtures"] == 2 and result.stdout.count("model's improvement") == 1


def test_more_processes_than_excerpts_are_refused(speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "trainer.batch_size=1"]
    result = torchrun(2, ROOT / "train.py", *arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert "error: trainer.batch_size=1: each of the 2 processes needs an excerpt for each" in result.stderr
