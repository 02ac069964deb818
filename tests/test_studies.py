"""The recipes of studies, with a `python` that only notes what it is called with."""

import os
import subprocess

import pytest
from conftest import ROOT

from separation.app.settings import compose_config


@pytest.fixture
def run_study(tmp_path):
    """Runs a study with a `python` that only notes its arguments; returns the exit status and the calls."""

    def run(study: str, *overrides: str, status: int = 0) -> tuple[int, list[list[str]]]:
        (tmp_path / "python").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "$LOG"; echo >> "$LOG"; exit {status}\n')
        (tmp_path / "python").chmod(0o755)
        log = tmp_path / "log"
        log.write_text("")
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log)}
        command = [str(ROOT / "recipes" / study), f"run_dir={tmp_path}/runs", *overrides]
        result = subprocess.run(command, env=environment, cwd=tmp_path)
        return result.returncode, [call.split("\n") for call in log.read_text().split("\n\n")[:-1]]

    return run


@pytest.mark.parametrize(
    ("study", "name"),
    [("clipping/compare.sh", "strategies"), ("clipping/scale.sh", "scales"), ("paper/table1.sh", "table1")],
)
def test_every_run_of_a_study_can_be_composed(study, name, run_study, tmp_path):
    status, [*sweeps, table] = run_study(study, "trainer.max_steps=7")
    assert status == 0 and table == ["-m", "separation.studies", name, f"{tmp_path}/runs"]
    for sweep in sweeps:
        settings = [item.split("=", 1) for item in sweep if "=" in item and not item.startswith("hydra")]
        choices = {key: value.split(",") for key, value in settings}
        assert choices["seed"] == ["0", "1", "2"] and choices["trainer.max_steps"] == ["7"]
        longest = max(len(values) for values in choices.values())
        for number in range(longest):
            chosen = [f"{key}={values[number % len(values)]}" for key, values in choices.items()]
            assert compose_config("config", chosen).trainer.max_steps == 7


@pytest.mark.parametrize("study", ["clipping/compare.sh", "clipping/scale.sh"])
def test_own_thresholds_go_to_the_strategies_that_have_one(study, run_study):
    _, [*sweeps, _] = run_study(study, "clip.max_norm=5,6")
    for sweep in sweeps:
        has_one = "clip=fixed" in sweep or "clip=error_feedback" in sweep
        assert [item for item in sweep if item.startswith("clip.max_norm=")][-1:] == ["clip.max_norm=5,6"] * has_one


def test_a_study_stops_at_a_signal_and_refuses_an_unknown_model_at_once(run_study):
    status, calls = run_study("clipping/compare.sh", status=130)
    assert (status, len(calls)) == (130, 1)
    assert run_study("clipping/compare.sh", "model=mine") == (2, [])
    status, calls = run_study("clipping/compare.sh", status=1)  # a run that failed
    assert status == 1 and calls[-1][:3] == ["-m", "separation.studies", "strategies"]


def test_what_the_conditions_set_cannot_be_given(run_study):
    assert run_study("paper/conditions.sh", "model=waveform") == (2, [])


def test_each_condition_of_the_recipe_changes_what_it_says(run_study):
    status, [*sweeps, table] = run_study("paper/conditions.sh", "data=fsdd", "data.root=x", "trainer.max_steps=7")
    assert status == 0 and table[:3] == ["-m", "separation.studies", "conditions"]
    found = {}
    for sweep in sweeps:
        values = dict(item.split("=", 1) for item in sweep if "=" in item)
        assert values["clip"] == "none,autoclip" and values["seed"] == "0,1,2"
        chosen = [f"{key}={value.split(',')[0]}" for key, value in values.items() if not key.startswith("hydra")]
        config = compose_config("config", chosen)
        found[values["hydra.sweep.subdir"].split("/")[0]] = (
            *(values["model"], config.optimizer._target_, config.optimizer.lr),
            *(config.trainer.max_steps, config.trainer.excerpt_frames, config.data.utterance_seconds),
        )
    both, adam = "mask_inference,waveform", "torch.optim.Adam"
    assert found == {
        "table1": (both, adam, 2e-3, 7, 400, 4),
        "larger_lr": (both, adam, 1e-2, 7, 400, 4),
        "longer_excerpts": (both, adam, 2e-3, 7, 800, 8),
        "more_steps": (both, adam, 2e-3, 21, 400, 4),
        **{f"sgd{lr}": ("mask_inference", "torch.optim.SGD", lr, 7, 400, 4) for lr in (300, 3000, 30000)},
        **{f"sgd{lr}": ("waveform", "torch.optim.SGD", lr, 7, 400, 4) for lr in (0.01, 0.1, 1)},
    }
