"""Schedules, early stopping, accumulation, averaged weights, other optimizers: each by its numbers, and all of them on
at once in a run that is interrupted."""

import math

import pytest
import torch
from conftest import CPU, assert_same, rows

import separation
from separation.app.assembly import load_model
from separation.app.settings import run_config
from separation.errors import InputError
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary
from separation.training.attached_step import AttachedStep
from separation.training.muon import Muon
from separation.training.schedules import Cosine, Plateau, Schedule, Step
from separation.training.step import train_step
from separation.training.trainer import _Run
from separation.training.validation import Validation

EVERYTHING = [
    *("optimizer=muon", "optimizer.weight_decay=0.1", "scheduler=warmup_cosine", "scheduler.warmup_steps=3"),
    *("trainer.accumulate=2", "trainer.ema=0.9", "trainer.patience=5", "trainer.monitor=si_sdr"),
]


def rates(make, steps: int, losses: list[float] | None = None) -> list[float]:
    """The learning rates of so many steps (or epochs with these losses) of an optimizer that begins at 8."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=8.0)
    schedule, taken = Schedule(make(optimizer)), []
    for number in range(steps):
        taken.append(optimizer.param_groups[0]["lr"])
        schedule.after_step()
        if losses is not None:
            schedule.after_epoch(losses[number])
    return taken


def test_the_cosine_by_hand():
    # 8 x (1 + cos(pi k / 4)) / 2, then what is left at its end
    half = math.sqrt(0.5)
    expected = [8, 4 + 4 * half, 4, 4 - 4 * half, 0, 0]
    assert rates(lambda optimizer: Cosine(optimizer, 4, 0, 0.0), 6) == pytest.approx(expected, abs=1e-12)
    warm = [8 / 3, 16 / 3, 8, 8, 0.25 * 8 + 0.75 * 4, 2, 2]
    assert rates(lambda optimizer: Cosine(optimizer, 5, 3, 0.25), 7) == pytest.approx(warm, abs=1e-12)


def test_steps_and_plateaus_by_hand():
    assert rates(lambda optimizer: Step(optimizer, 2, 0.5), 6) == [8, 8, 4, 4, 2, 2]
    # An epoch as good as the best one is no better; the third such is one more than patience.
    losses = [-1.0, -1.0, -1.0, -1.0, -2.0, -1.5, -1.5, -1.5, -1.5]
    expected = [8, 8, 8, 8, 4, 4, 4, 4, 3]
    assert rates(lambda optimizer: Plateau(optimizer, 0.5, 2, 3.0), 9, losses) == expected


def test_a_schedule_leaves_the_history_alone(fit):
    """A threshold is of gradients as they are; only their sequence changes with the learning rate."""
    plain, scheduled = (fit(name, f"scheduler={name}", "trainer.max_steps=1") for name in ("none", "cosine"))
    assert list(plain.clipper.history) == list(scheduled.clipper.history)


def test_epochs_say_the_learning_rate(fit, tmp_path):
    fit("run", "scheduler=step", "scheduler.step_size=3", "scheduler.gamma=0.1")
    written = [float(row["train/learning_rate"]) for row in rows(tmp_path / "run/epochs.csv", "")]
    assert written == pytest.approx([2e-4, 2e-5, 2e-5])  # after the steps 3, 6 and 8


@pytest.mark.parametrize("model", ["mask_inference", "deep_clustering", "whitened_kmeans", "chimera", "conv_tasnet"])
@pytest.mark.parametrize("attached", [False, True])
def test_a_batch_in_parts_is_the_batch(model, attached, make_parts):
    """Of three parts of unequal size, with the batch's normalisation, running statistics and clipping."""
    ways = [[f"model={model}", "trainer.batch_size=5", f"trainer.accumulate={count}"] for count in (1, 3)]
    whole, split = (make_parts(*overrides, "optimizer=sgd", "optimizer.lr=1e-4") for overrides in ways)
    take = AttachedStep if attached else lambda parts: lambda batch: train_step(parts, batch)
    takes = take(whole), take(split)
    for first in range(0, 15, 5):
        batch = whole.data.train.excerpts(range(first, first + 5), 4000)
        (loss, clip), (loss_of_parts, clip_of_parts) = (step(batch) for step in takes)
        assert float(loss_of_parts) == pytest.approx(float(loss), rel=1e-5)
        assert clip_of_parts.grad_norm == pytest.approx(clip.grad_norm, rel=1e-5)
    assert len(split.clipper.history) == 3  # clipped once a step
    for (name, value), other in zip(
        whole.network.state_dict().items(), split.network.state_dict().values(), strict=True
    ):
        assert torch.allclose(value.double(), other.double(), rtol=1e-5, atol=1e-6), name


def test_averaged_weights_by_their_closed_form(make_parts, tmp_path):
    parts = make_parts("trainer.ema=0.75", "optimizer=sgd", "optimizer.lr=1")
    run = object.__new__(_Run)
    run.parts, run.take = parts, lambda batch: train_step(parts, batch)
    seen = []
    for first in range(0, 8, 2):
        run._step(parts.data.train.excerpts(range(first, first + 2), 4000))
        seen.append([entry.detach().double().clone() for entry in parts.network.parameters()])
    expected = [
        sum(weight * value for weight, value in zip((27, 9, 12, 16), values, strict=True)) / 64
        for values in zip(*seen, strict=True)
    ]
    for value, averaged in zip(expected, parts.averaged.module.parameters(), strict=True):
        assert torch.allclose(averaged.double(), value, rtol=1e-5, atol=1e-7)
    assert parts.averaged.n_averaged == 4


def test_the_average_is_validated_and_saved_beside_the_weights(fit, tmp_path):
    parts = fit("run", "trainer.ema=0.5", "trainer.max_steps=3")  # one epoch, thus the best
    last = rows(tmp_path / "run/epochs.csv", "")[-1]
    validation = Validation(parts, 2, parts.stft.num_samples(20), 50)
    assert float(last["valid/averaged_loss"]) == validation.loss(parts.averaged.module) != float(last["valid/loss"])
    assert float(last["valid/averaged_si_sdr"]) == pytest.approx(validation.si_sdr(parts.averaged.module))
    saved = checkpoint.load(tmp_path / "run/checkpoints/averaged.pt", CPU)["network"]
    assert all(torch.equal(saved[name], value) for name, value in parts.averaged.module.state_dict().items())


def test_training_ends_where_validation_gets_no_better(fit, tmp_path, monkeypatch, caplog):
    losses = iter([5.0, 4.0, 4.5, 4.0, 3.9, 6.0])
    monkeypatch.setattr(Validation, "loss", lambda self, network: next(losses))
    caplog.set_level("INFO")
    fit("run", "trainer.max_steps=100", "trainer.patience=2")
    epochs = rows(tmp_path / "run/epochs.csv", "")
    assert [row["valid/loss"] for row in epochs] == ["5.0", "4.0", "4.5", "4.0"]  # 4 is no better than 4
    assert "trainer.patience=2: ends at step 12 of 100" in caplog.text
    assert checkpoint.load(tmp_path / "run/checkpoints/best.pt", CPU)["progress"]["step"] == 6
    fit("run", "trainer.max_steps=100", "trainer.patience=2", "trainer.resume=true")
    assert len(rows(tmp_path / "run/epochs.csv", "")) == 4  # it has ended
    fit("run", "trainer.max_steps=18", "trainer.patience=3", "trainer.resume=true")
    assert [row["valid/loss"] for row in rows(tmp_path / "run/epochs.csv", "")[4:]] == ["3.9", "6.0"]


def test_the_best_may_be_the_highest_si_sdr(fit, tmp_path, monkeypatch):
    scores = iter([-3.0, 2.0, 1.0])
    monkeypatch.setattr(Validation, "si_sdr", lambda self, network: next(scores))
    fit("run", "trainer.monitor=si_sdr", "trainer.max_steps=9")
    best = checkpoint.load(tmp_path / "run/checkpoints/best.pt", CPU)["progress"]
    assert (best["step"], best["best_loss"]) == (6, -2.0)


@pytest.mark.parametrize(
    "overrides",
    [
        EVERYTHING,
        ["scheduler=plateau", "scheduler.patience=0", "optimizer=adamw", "trainer.patience=9"],
        ["scheduler=step", "scheduler.step_size=3", "clip=autoclip_on_device", "trainer.ema=0.9"],
    ],
)
def test_a_run_with_all_of_it_goes_on_bit_for_bit(overrides, fit, tmp_path):
    fit("whole", *overrides)
    for stop in (2, 5):
        assert fit(f"parts{stop}", *overrides, stop=stop) is None
        fit(f"parts{stop}", *overrides, "trainer.resume=true")
        assert_same(tmp_path / "whole", tmp_path / f"parts{stop}")


def test_muon_takes_the_steps_of_its_parts():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Conv1d(1, 2, 3))
    twin = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Conv1d(1, 2, 3))
    twin.load_state_dict(network.state_dict())
    optimizer = Muon(network.parameters(), lr=0.1, weight_decay=0.2, momentum=0.9)
    matrix = [twin[0].weight]
    others = [twin[0].bias, twin[1].weight, twin[1].bias]
    parts = [
        torch.optim.Muon(matrix, lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.1, weight_decay=0.2),
    ]
    for step in range(4):
        for model in (network, twin):
            model.zero_grad()
            torch.manual_seed(step)
            model(torch.randn(4, 1, 5)).square().sum().backward()
        optimizer.step()
        for part in parts:
            part.step()
        if step == 1:  # a state that went through a checkpoint does the same
            state = optimizer.state_dict()
            optimizer = Muon(network.parameters(), lr=0.1, weight_decay=0.2, momentum=0.9)
            optimizer.load_state_dict(state)
    for first, second in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(first, second)


def test_muons_step_has_one_size_whatever_the_gradients():
    sizes = []
    for scale in (1.0, 1e-3):
        torch.manual_seed(0)
        layer = torch.nn.Linear(6, 4, bias=False)
        before = layer.weight.detach().clone()
        layer(torch.randn(9, 6)).square().sum().mul(scale).backward()
        Muon(layer.parameters(), 0.1, 0.0, 0.9).step()
        sizes.append(float((layer.weight - before).detach().norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


REFUSED = {
    "trainer.patience=0": "trainer.patience=0: expected a whole number from 1",
    "trainer.monitor=pesq": "trainer.monitor=pesq: expected one of loss, si_sdr",
    "trainer.monitor=si_sdr trainer.num_scored=0": "trainer.num_scored=0 takes none",
    "trainer.accumulate=3": "trainer.accumulate=3: expected a whole number from 1 to 2",
    "trainer.ema=1": "trainer.ema=1: expected a number from 0 to 1",
    "scheduler=cosine trainer.max_steps=null trainer.max_epochs=2": "scheduler.num_steps: has no value where",
    "scheduler=warmup_cosine": "scheduler.warmup_steps=1000: expected a whole number from 0 to 8",
    "scheduler=step scheduler.step_size=0": "scheduler.step_size=0: expected a whole number",
    "scheduler=step": "full_key: scheduler.step_size",
    "scheduler=plateau scheduler.factor=1.5": "scheduler.factor=1.5: expected a number",
    "scheduler.gamma=1": "Could not override|there is no such setting",
    "optimizer=adamw optimizer.weight_decay=-1": "optimizer: Invalid weight_decay value: -1",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_bad_values_get_a_sentence(overrides, fit):
    with pytest.raises(Exception, match=REFUSED[overrides]) as raised:
        fit("run", *overrides.split())
    assert isinstance(raised.value, InputError) or "scheduler" in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("schedule", {"last_epoch": 4}), ("schedule", {}), ("averaged", {"network": {}, "count": 4}), ("averaged", {})],
)
def test_a_damaged_state_is_refused(key, value, fit, tmp_path):
    options = ["scheduler=cosine", "trainer.ema=0.9"]
    fit("run", *options, stop=4)
    path = tmp_path / "run/checkpoints/last.pt"
    state = checkpoint.load(path, CPU)
    checkpoint.save(path, {**state, key: value})
    with pytest.raises(InputError, match="can't be resumed"):
        fit("run", *options, "trainer.resume=true")


def test_a_batch_splits_into_like_parts(make_parts):
    batch = make_parts().data.train.excerpts(range(5), 4000)
    batch = batch._replace(noise=torch.arange(5.0)[:, None].expand(5, 4000))
    pieces = batch.split(2)
    assert [len(piece.names) for piece in pieces] == [3, 2]
    assert pieces[0].names + pieces[1].names == batch.names
    for name in ("sources", "num_samples", "noise"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(batch, name))


def test_averaged_weights_are_scored_and_separate(make_run, tmp_path):
    folder = RunFolder(make_run("trainer.ema=0.5", "trainer.max_steps=6"))
    config = run_config(folder, [])
    scores = {}
    for weights in ("best", "averaged"):
        saved = checkpoint.load(folder.checkpoint(weights), CPU)["network"]
        network = load_model(folder, config, weights).network
        assert all(torch.equal(saved[name], value) for name, value in network.state_dict().items())
        scores[weights] = separation.evaluate(folder.path, [f"weights={weights}", f"output={tmp_path}/{weights}"])
    for path, weights in ((folder.path, "best"), (folder.path / "averaged", "averaged")):
        assert load_summary(RunFolder(path))["si_sdr"] == scores[weights]["si_sdr"]
    assert scores["best"]["si_sdr"] != scores["averaged"]["si_sdr"]
    with pytest.raises(InputError, match=r"weights=averaged: .*averaged.pt isn't there; it takes training"):
        separation.load(make_run(), ["weights=averaged"])
    with pytest.raises(InputError, match="weights=mean: expected one of best, averaged"):
        separation.evaluate(folder.path, ["weights=mean"])
