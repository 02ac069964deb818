"""Numerical faults: a bad batch leaves nothing behind; many of them end the run."""

import csv
import math

import pytest
import torch
from conftest import MODELS, TINY, run_program

from separation.app.assembly import build, build_parts
from separation.app.settings import compose_config
from separation.data.mixtures import Batch
from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.training import step as step_module
from separation.training.attached_step import AttachedStep
from separation.training.devices import Precision
from separation.training.interruption import Interruption
from separation.training.processes import Processes
from separation.training.step import TrainingParts, train_step

CPU = torch.device("cpu")


def state(parts: TrainingParts) -> list[torch.Tensor]:
    """Copies of everything that a step changes."""
    optimizer = [value for entry in parts.optimizer.state.values() for value in entry.values()]
    clipper = torch.tensor(parts.clipper.history)
    return [tensor.clone() for tensor in [*parts.network.state_dict().values(), *optimizer, clipper]]


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("model", MODELS)
def test_a_bad_batch_leaves_parameters_optimizer_history_and_normalisation_as_they_were(model, value, make_parts):
    parts = make_parts(f"model={model}")
    good = parts.data.train.excerpts(range(2), 4000)
    train_step(parts, good)
    before = state(parts)
    bad = Batch(good.sources.clone(), good.num_samples, good.names)
    bad.sources[0, 0, 100] = value
    _, result = train_step(parts, bad)
    assert not result.should_step
    assert all(torch.equal(*pair) for pair in zip(before, state(parts), strict=True))
    loss, result = train_step(parts, good)
    assert result.should_step and math.isfinite(loss)
    assert not any(torch.equal(*pair) for pair in zip(before[-1:], state(parts)[-1:], strict=True))


def test_an_infinite_loss_with_finite_gradients_is_left_out_too(make_parts):
    parts = make_parts()
    batch, loss = parts.data.train.excerpts(range(2), 4000), parts.loss
    train_step(parts, batch)
    before = state(parts)
    object.__setattr__(parts, "loss", lambda outputs, feats: loss(outputs, feats) + math.inf)
    value, result = train_step(parts, batch)
    assert math.isinf(value) and not result.should_step
    assert all(torch.equal(*pair) for pair in zip(before, state(parts), strict=True))


def test_a_scaled_loss_takes_the_same_steps_and_an_overflow_is_left_out(make_parts):
    for overrides in ([], ["optimizer.fused=false"]):  # a fused optimizer unscales by itself
        plain, scaled = make_parts(*overrides), make_parts(*overrides)
        scaled.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        batch, take = plain.data.train.excerpts(range(2), 4000), AttachedStep(scaled)
        for _ in range(3):
            results = [train_step(plain, batch)[1], take(batch)[1]]
            assert results[0].grad_norm == pytest.approx(results[1].grad_norm, rel=1e-5)
            assert results[0].coefficient == pytest.approx(results[1].coefficient, rel=1e-5)
        for pair in zip(plain.network.parameters(), scaled.network.parameters(), strict=True):
            torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-6)
        before = state(scaled)
        scaled.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127 * 1.9)
        take.weight = 1e6
        _, result = take(batch)
        assert not result.should_step and scaled.precision.scaler.get_scale() < 2.0**127
        assert all(torch.equal(*pair) for pair in zip(before, state(scaled), strict=True))


def test_half_precision_is_for_gpus():
    with pytest.raises(InputError, match="trainer.precision=fp16: needs a GPU; take bf16"):
        Precision("fp16", CPU)
    with pytest.raises(InputError, match="trainer.precision=tf32: needs a GPU; take bf16"):
        Precision("tf32", CPU)
    with pytest.raises(InputError, match="trainer.precision=fp8: expected one of fp32, tf32, bf16, fp16"):
        Precision("fp8", CPU)


def test_bf16_comes_close_to_fp32(make_parts):
    losses = []
    for precision in ("fp32", "bf16"):
        parts = make_parts(f"trainer.precision={precision}")
        batch = parts.data.train.excerpts(range(2), 4000)
        losses.append([float(train_step(parts, batch)[0]) for _ in range(5)])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2) and losses[0] != losses[1]


def test_faults_in_a_row_end_the_run_and_name_the_mixtures(speech_folder, tmp_path, monkeypatch):
    settings = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/cache", *TINY]
    settings += [
        "trainer.max_skipped=3",
        "trainer.max_steps=20",
        "trainer.progress=false",
        "trainer.checkpoint_steps=1",
    ]
    config = compose_config("config", settings)
    parts, trainer = build_parts(config, CPU, Processes()), build(config, "trainer")
    excerpts = type(parts.data.train).excerpts

    def poisoned(self, indices, num_samples, epoch=0):
        batch = excerpts(self, indices, num_samples, epoch)
        if self is parts.data.train and epoch in (1, 3, 4):  # two steps an epoch
            batch.sources[1, 0, 5] = math.nan
        return batch

    monkeypatch.setattr(type(parts.data.train), "excerpts", poisoned)
    with RunFolder.create(tmp_path / "run", config, False) as folder:
        words = r"trainer.max_skipped=3: .*up to step 9.*last good checkpoint is .*last.pt\. Their mixtures: "
        words += ", ".join(f"train-000{epoch}-0000{i}" for epoch in (3,) for i in range(4)) + ", train-0004-00000"
        with pytest.raises(InputError, match=words):
            trainer.fit(parts, folder, Interruption())
    saved = torch.load(folder.last, weights_only=True)
    assert saved["progress"]["step"] == 8 and saved["clipper"]["nonfinite_steps"] == 4
    with open(folder.steps, newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    assert [math.isnan(loss) for loss in losses] == [False] * 2 + [True] * 2 + [False] * 2 + [True] * 3
    with open(folder.epochs, newline="") as file:
        assert [row["train/skipped_steps"] for row in csv.DictReader(file)] == ["0", "2", "0", "2"]


def test_an_optimizer_that_wants_a_closure_is_refused(speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", *TINY, "optimizer._target_=torch.optim.LBFGS"]
    result = run_program(
        "train.py", "run_dir=run", "~optimizer.fused", "~optimizer.weight_decay", *arguments, cwd=tmp_path
    )
    assert result.returncode == 1
    assert "optimizer._target_=torch.optim.LBFGS: doesn't take steps from given gradients" in result.stderr


def test_where_no_step_was_good_the_learning_rate_is_not_to_blame(fit, monkeypatch):
    whole_loss = step_module.batch_loss
    monkeypatch.setattr(step_module, "batch_loss", lambda *arguments: whole_loss(*arguments) * math.nan)
    with pytest.raises(InputError, match=r"No step was good: look at the network's or the loss's code"):
        fit("run", "trainer.max_skipped=2")
