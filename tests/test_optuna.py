"""Searching with Optuna: what a run returns, how a sweep's runs are named, and what its report says."""

import math
from pathlib import Path

import pytest
from conftest import TINY, run_program
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from separation.app.command import folder_name, job, sentence
from separation.app.settings import CONF
from separation.app.sweeps import SweepReport
from separation.app.tracking import tracked_run
from separation.errors import InputError
from separation.runs.run_folder import RunFolder


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


def test_a_sweep_without_its_sweeper_says_what_installs_it():
    from hydra.errors import HydraException

    assert 'pip install ".[optuna]"' in sentence(HydraException("Could not find 'hydra/sweeper/optuna'"))
