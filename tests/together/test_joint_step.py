"""Steps of several runs at once, beside each run's own."""

import pytest
import torch

from separation.training.step import TrainingParts, train_step
from separation.training.together.joint_step import Seat, joint_step

PAPERS = ("mask_inference", "waveform", "deep_clustering", "whitened_kmeans", "chimera")


def batches(parts: TrainingParts, count: int, dtype: torch.dtype = torch.float64):
    drawn = (parts.data.train.excerpts(range(2 * i, 2 * i + 2), 800) for i in range(count))
    return [batch._replace(sources=batch.sources.to(dtype)) for batch in drawn]


def state(parts: TrainingParts) -> list[torch.Tensor]:
    return [value.clone() for value in parts.network.state_dict().values()]


@pytest.fixture
def make_runs(make_parts):
    """Runs of one model that differ in seed, clipping and learning rate, in float64."""

    def make(model: str) -> list[TrainingParts]:
        overrides = (["seed=0", "clip.p=10"], ["seed=1", "clip=none"], ["seed=2", "clip.p=50", "optimizer.lr=1e-4"])
        runs = [make_parts(f"model={model}", "data.num_train=60", *each) for each in overrides]
        for parts in runs:
            parts.network.double()
        return runs

    return make


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("model", PAPERS)
def test_thirty_steps_are_those_of_the_runs_alone(model, stacked, make_runs):
    """In float64, where they can't be told apart."""
    alone, together = make_runs(model), make_runs(model)
    seats = [Seat.of(parts) for parts in together]
    drawn = [batches(parts, 30) for parts in alone]
    for of_runs in zip(*drawn, strict=True):
        expected = [train_step(parts, batch) for parts, batch in zip(alone, of_runs, strict=True)]
        for (loss, clip), (other, other_clip) in zip(joint_step(seats, of_runs, stacked), expected, strict=True):
            assert loss.item() == pytest.approx(other.item(), rel=1e-8)
            for field in ("grad_norm", "threshold", "coefficient"):
                assert getattr(clip, field) == pytest.approx(getattr(other_clip, field), rel=1e-8), field
    for parts, other in zip(together, alone, strict=True):
        torch.testing.assert_close(parts.network.state_dict(), other.network.state_dict(), rtol=1e-8, atol=1e-10)


def numbers(taken) -> tuple[float, ...]:
    loss, clip = taken
    return loss.item(), clip.grad_norm, min(clip.threshold, 1e9)  # without clipping there is none


@pytest.mark.parametrize("model", PAPERS)
def test_in_float32_thirty_steps_differ_by_no_more_than_a_last_digit_makes(model, make_parts):
    """At most 1e-4, or three times as much as where the weights begin with another last digit: L_WKM inverts a matrix,
    which enlarges it."""
    overrides = (["seed=0", "clip.p=10"], ["seed=1", "clip=none"], ["seed=2", "clip.p=50"])
    alone, together, nudged = (
        [make_parts(f"model={model}", "data.num_train=60", *each) for each in overrides] for _ in range(3)
    )
    with torch.no_grad():
        for parts in nudged:
            for parameter in parts.network.parameters():
                parameter.mul_(1 + 2**-23)
    seats = [Seat.of(parts) for parts in together]
    rows: list[list[list[tuple[float, ...]]]] = []
    for of_runs in zip(*(batches(parts, 30, torch.float32) for parts in alone), strict=True):
        expected, others = ([*map(numbers, map(train_step, runs, of_runs))] for runs in (alone, nudged))
        rows.append([expected, [numbers(taken) for taken in joint_step(seats, of_runs, True)], others])
    expected, stacked, other = torch.tensor(rows, dtype=torch.float64).unbind(1)  # each (step, run, number)
    largest = (stacked / expected - 1).abs().amax((0, 1))
    assert (largest <= torch.clamp(3 * (other / expected - 1).abs().amax((0, 1)), min=1e-4)).all()
    if model in ("mask_inference", "waveform", "deep_clustering"):
        assert largest.max() < 1e-4


def test_a_nan_in_one_run_leaves_the_others_as_they_are(make_runs):
    runs, damaged = make_runs("chimera"), make_runs("chimera")
    of_runs = [batches(parts, 2) for parts in runs]
    poisoned = [list(drawn) for drawn in of_runs]
    poisoned[1][0] = poisoned[1][0]._replace(sources=poisoned[1][0].sources * torch.nan)
    before = state(damaged[1])
    seats, other_seats = [Seat.of(parts) for parts in runs], [Seat.of(parts) for parts in damaged]
    for step in range(2):
        joint_step(seats, [drawn[step] for drawn in of_runs], True)
        [_, (loss, clip), _] = joint_step(other_seats, [drawn[step] for drawn in poisoned], True)
        assert clip.should_step == (step == 1)
        if step == 0:
            assert loss.isnan() and all(torch.equal(*pair) for pair in zip(state(damaged[1]), before, strict=True))
    for number in (0, 2):
        assert all(torch.equal(*pair) for pair in zip(state(damaged[number]), state(runs[number]), strict=True))


def test_features_of_a_shared_batch_are_computed_once(make_runs, monkeypatch):
    from separation.training.together import joint_step as module

    counted = []
    monkeypatch.setattr(module, "features", lambda *args, plain=module.features: counted.append(1) or plain(*args))
    runs = make_runs("mask_inference")
    [one, other] = batches(runs[0], 2)
    joint_step([Seat.of(parts) for parts in runs], [one, one, other], True)
    assert len(counted) == 2


def test_an_error_of_one_run_is_its_own(make_parts):
    overrides = (["seed=0"], ["seed=1", "clip=fixed", "clip.max_norm=1", "clip.on_nonfinite=raise"])
    runs = [make_parts(*each) for each in overrides]
    of_runs = [batches(parts, 1, torch.float32)[0] for parts in runs]
    of_runs[1] = of_runs[1]._replace(sources=of_runs[1].sources * torch.nan)
    [taken, error] = joint_step([Seat.of(parts) for parts in runs], of_runs, True)
    assert isinstance(taken, tuple) and "clip.on_nonfinite=raise" in str(error)
