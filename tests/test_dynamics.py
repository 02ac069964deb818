"""Recorded dynamics: what they say of a known loss, and that recording changes nothing."""

import math

import numpy as np
import pytest
import torch
from conftest import STUDIES, TINY, call_program

from separation.errors import InputError
from separation.runs import checkpoint
from separation.studies.run_figures import read_columns
from separation.training.dynamics_recorder import COLUMNS, RecordedSteps
from separation.training.step import train_step


def test_of_a_quadratic_loss_the_smoothness_is_its_curvature(make_parts, tmp_path):
    """f = 3/2 ||theta||^2: the gradient's Lipschitz constant is 3 everywhere."""
    parts = make_parts("optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1", "optimizer.fused=false", "clip=none")
    network = parts.network

    def loss(outputs, feats):
        return 1.5 * sum(parameter.square().sum() for parameter in network.parameters())

    object.__setattr__(parts, "loss", loss)
    take = RecordedSteps(lambda batch: train_step(parts, batch), parts, tmp_path / "dynamics.csv", 2, 0)
    batch = parts.data.train.excerpts(range(2), 4000)
    norms = []
    for _ in range(4):
        take(batch)
        norms.append(math.sqrt(sum(float(p.detach().double().square().sum()) for p in network.parameters())))
    columns = read_columns(tmp_path / "dynamics.csv")
    assert tuple(columns) == COLUMNS and columns["step"].tolist() == [2, 4]
    np.testing.assert_allclose(columns["smoothness"], 3, rtol=1e-3)
    # theta <- (1 - 0.3) theta, so a step goes 0.3 ||theta|| and the gradient is 3 ||theta||.
    np.testing.assert_allclose(columns["step_size"], [0.3 * norms[0], 0.3 * norms[2]], rtol=1e-4)
    np.testing.assert_allclose(columns["grad_norm"], [3 * norms[0], 3 * norms[2]], rtol=1e-4)
    np.testing.assert_allclose(columns["loss"], [1.5 * norms[0] ** 2, 1.5 * norms[2] ** 2], rtol=1e-4)


def test_recording_changes_nothing(make_run):
    settings = ["model.num_layers=2", "model.dropout=0.3", "trainer.max_steps=6"]
    plain, recorded = make_run(*settings), make_run(*settings, "trainer.dynamics_steps=2")
    states = [checkpoint.load(run / "checkpoints/last.pt", torch.device("cpu")) for run in (plain, recorded)]
    assert _flat(states[0]["network"]) == _flat(states[1]["network"])
    assert str(states[0]["clipper"]) == str(states[1]["clipper"])
    assert torch.equal(states[0]["random"][0][0], states[1]["random"][0][0])
    columns = read_columns(recorded / "dynamics.csv")
    steps = read_columns(recorded / "steps.csv")
    assert columns["step"].tolist() == [2, 4, 6]
    np.testing.assert_allclose(columns["loss"], steps["train/loss"][1::2], rtol=1e-6)
    np.testing.assert_allclose(columns["grad_norm"], steps["train/grad_norm"][1::2])
    np.testing.assert_allclose(columns["threshold"], steps["train/clip_threshold"][1::2])
    assert (columns["step_size"] > 0).all() and (columns["smoothness"] > 0).all()
    assert not (plain / "dynamics.csv").exists()


def test_the_table_goes_on_with_its_run(speech_folder, tmp_path):
    common = ["data=folder", f"data.root={speech_folder}", *TINY, "model.dropout=0.3", "model.num_layers=2"]
    common += ["trainer.dynamics_steps=2", "trainer.resume=true", "evaluation.num_audio=0"]
    for name, steps in (("whole", 6), ("parts", 3), ("parts", 6)):
        result = call_program("train.py", *common, f"run_dir={name}", f"trainer.max_steps={steps}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    tables = [(tmp_path / name / "dynamics.csv").read_text() for name in ("whole", "parts")]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 4


def _flat(state: dict) -> list:
    """Everything in it, tensors as lists."""
    return [value.tolist() if torch.is_tensor(value) else _flat(value) if isinstance(value, dict) else value
            for value in state.values()]  # fmt: skip


def test_a_step_that_is_left_out_has_no_smoothness(make_parts, tmp_path):
    parts = make_parts()
    take = RecordedSteps(lambda batch: train_step(parts, batch), parts, tmp_path / "dynamics.csv", 1, 0)
    batch = parts.data.train.excerpts(range(2), 4000)
    take(batch)
    take(batch._replace(sources=batch.sources * math.nan))
    columns = read_columns(tmp_path / "dynamics.csv")
    assert columns["step_size"][1] == 0 and math.isnan(columns["smoothness"][1])


def test_several_processes_are_refused(make_parts, tmp_path):
    parts = make_parts()
    object.__setattr__(parts.processes, "count", 2)
    with pytest.raises(InputError, match="trainer.dynamics_steps=1: needs a single process"):
        RecordedSteps(lambda batch: train_step(parts, batch), parts, tmp_path / "dynamics.csv", 1, 0)


def test_the_figure_and_its_animation(make_run, tmp_path):
    settings = ["trainer.max_steps=6", "trainer.dynamics_steps=1", "clip=autoclip"]
    runs = [make_run(*settings, "clip.p=100"), make_run(*settings, "clip.p=10")]
    for name in ("figure.png", "figure.gif"):
        result = call_program(*STUDIES, "dynamics", *runs, "--output", tmp_path / name, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (tmp_path / name).stat().st_size > 10_000
    rows = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert rows[2:4] == ["no clipping", "AutoClip"]
    result = call_program(*STUDIES, "dynamics", make_run(), make_run(), "--output", tmp_path / "x.png", cwd=tmp_path)
    assert result.returncode == 1 and "train with trainer.dynamics_steps=20" in result.stderr
