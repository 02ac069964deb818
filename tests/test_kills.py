"""A run that is killed again and again ends as one that was left alone."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY, run_program
from test_resume import assert_same, rows

STEPS_A_KILL = 60
"""Of the whole run's steps; a step and its checkpoint take about 20 ms here, and lives last up to a second."""


def saved_step(run: Path) -> int:
    """The step of the run's checkpoint; 0: there is none."""
    script = "import sys, torch; print(torch.load(sys.argv[1], weights_only=True)['progress']['step'])"
    path = run / "checkpoints/last.pt"
    if not path.exists():
        return 0
    return int(subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_killed_runs_lose_nothing(request, speech_folder, tmp_path, capsys):
    kills = request.config.getoption("--kills")
    arguments = ["data=folder", f"data.root={speech_folder}", *TINY, f"trainer.max_steps={STEPS_A_KILL * kills}"]
    arguments += ["model.num_layers=2", "model.dropout=0.3", "trainer.checkpoint_steps=1", "data.num_train=50"]
    whole = run_program("train.py", *arguments, "run_dir=whole", "data.store=store", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    command = [sys.executable, str(ROOT / "train.py"), *arguments, "run_dir=run", "data.store=kept"]
    command.append("trainer.resume=true")
    run, store, moments = tmp_path / "run", tmp_path / "kept", random.Random(0)
    found = {"building the store": 0, "writing a checkpoint": 0, "elsewhere": 0}
    step = 0
    for number in range(kills):
        aim = ("the store", "a checkpoint", "any moment")[number % 3]
        if aim == "the store":
            shutil.rmtree(store, ignore_errors=True)  # this life builds it anew
        before = (run / "steps.csv").stat().st_mtime if (run / "steps.csv").exists() else 0.0
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            if aim == "the store":
                wait(process, lambda: list(store.glob(".*.partial")))
                time.sleep(moments.uniform(0, 0.005))
            else:
                wait(process, lambda before=before: changed(run / "steps.csv", before))
                time.sleep(moments.uniform(0, 1))
            if aim == "a checkpoint":
                wait(process, lambda: list((run / "checkpoints").glob(".*.tmp")))
            process.kill()
            error = process.stderr.read().decode()
        assert not error, error
        if list(store.glob(".*.partial")):
            found["building the store"] += 1
        elif list((run / "checkpoints").glob(".*.tmp")):
            found["writing a checkpoint"] += 1
        else:
            found["elsewhere"] += 1
        now = saved_step(run)
        assert now >= step
        step = now
    with capsys.disabled():
        print(f"\n{kills} kills, up to step {step} of {STEPS_A_KILL * kills}:", found)
    result = run_program("train.py", *command[2:], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_same(tmp_path / "whole", run)
    assert len(rows(run / "steps.csv", "")) == STEPS_A_KILL * kills
    assert (run / "scores.csv").read_bytes() == (tmp_path / "whole/scores.csv").read_bytes()
    leftovers = [*run.rglob(".*.tmp"), *store.glob(".*.partial")]
    assert not leftovers


def wait(process: subprocess.Popen[bytes], condition: Callable[[], object]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.0005)


def changed(path: Path, before: float) -> bool:
    return path.exists() and path.stat().st_mtime > before and path.stat().st_size > 200
