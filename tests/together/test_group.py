"""What runs of a group do to each other where one of them ends as nobody planned."""

import os
import signal
from types import SimpleNamespace

import pytest
from conftest import TINY, call_program

from separation.app import train
from separation.training.interruption import Interruption
from separation.training.together import group as module
from separation.training.together.group import Group, PassedOn


def test_an_exit_in_a_step_ends_all_instead_of_waiting_for_ever(monkeypatch):
    def joint_step(seats, batches, stacked):
        raise SystemExit(3)

    monkeypatch.setattr(module, "joint_step", joint_step)
    monkeypatch.setattr(module.Seat, "of", lambda parts: parts)
    group = Group(False, False, Interruption())

    seat = SimpleNamespace(parts=SimpleNamespace(precision=SimpleNamespace(apply=lambda: None)))
    with pytest.raises(SystemExit):
        group.run([lambda member: member.steps_of(seat)(None)] * 2)


def test_a_signal_is_passed_on():
    source = Interruption()
    passed = PassedOn(source)
    assert passed.asked() == 0
    source.number = signal.SIGTERM
    assert passed.asked() == passed.number == signal.SIGTERM


def test_a_signal_during_scoring_ends_the_sweep(speech_folder, tmp_path, monkeypatch):
    """The first run is scored; the second one of its group isn't, and the next group is not begun."""
    plain = train.score_run

    def score_run(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(*arguments)

    monkeypatch.setattr(train, "score_run", score_run)
    arguments = ["--multirun", "hydra.sweep.subdir=${hydra.job.num}", "data=folder", f"data.root={speech_folder}"]
    arguments += [*TINY, "seed=0,1,2,3", "hydra/launcher=together", "hydra.launcher.max_runs=2", "run_dir=runs"]
    result = call_program("train.py", *arguments, cwd=tmp_path)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == 1
    assert len(list((tmp_path / "runs").glob("*/steps.csv"))) == 2
