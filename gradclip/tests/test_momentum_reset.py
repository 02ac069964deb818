"""MomentumReset: after a reset an optimizer steps as a new one."""

import copy
import io
from collections.abc import Callable
from functools import partial

import pytest
import torch

from gradclip import AdaClip, AdaGN, Chain, MomentumReset, SpikeClip
from strategies import named_parameters, random_gradients, set_gradients

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "Adam amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "Adam fused": partial(torch.optim.Adam, fused=True),
    "Adam foreach": partial(torch.optim.Adam, foreach=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
}


def take(optimizer: torch.optim.Optimizer, parameters: list, steps: list) -> None:
    for gradients in steps:
        set_gradients(parameters, gradients)
        optimizer.step()


def tensors(parameters: list) -> list[torch.Tensor]:
    return [parameter for _, parameter in parameters]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_from_a_reset_on_the_optimizer_is_a_new_one(name):
    """To the last bit; with an interval of 7 the resets come before the steps 7 and 14."""
    steps, parameters = random_gradients(20), named_parameters(torch.float32)
    optimizer = OPTIMIZERS[name](tensors(parameters), lr=0.01)
    reset = MomentumReset(7).attach(optimizer)
    others = copy.deepcopy(parameters)
    for first, last in ((0, 6), (6, 13), (13, 20)):
        take(optimizer, parameters, steps[first:last])
        take(OPTIMIZERS[name](tensors(others), lr=0.01), others, steps[first:last])
        assert all(torch.equal(*pair) for pair in zip(tensors(parameters), tensors(others), strict=True))
    assert reset.steps == 20


def test_a_resumed_run_resets_where_it_would_have():
    steps, parameters = random_gradients(20), named_parameters()
    optimizer = torch.optim.Adam(tensors(parameters))
    reset = MomentumReset(8).attach(optimizer)
    take(optimizer, parameters, steps[:13])
    file = io.BytesIO()
    torch.save({"reset": reset.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    state, others = torch.load(file, weights_only=True), copy.deepcopy(parameters)
    other = torch.optim.Adam(tensors(others))
    other.load_state_dict(state["optimizer"])
    resumed = MomentumReset(8)
    resumed.load_state_dict(state["reset"])
    resumed.attach(other)
    take(optimizer, parameters, steps[13:])
    take(other, others, steps[13:])
    assert all(torch.equal(*pair) for pair in zip(tensors(parameters), tensors(others), strict=True))
    assert optimizer.state[parameters[0][1]]["step"] == 5  # 16 to 20


def test_stable_spam_is_adam_behind_adaclip_and_adagn_with_resets():
    """Against Algorithm 1 for a single tensor, written out."""
    parameter = torch.nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    Chain([AdaClip(), AdaGN()]).attach(optimizer, [("weight", parameter)])
    MomentumReset(10).attach(optimizer)
    weight, largest, mean, square = torch.zeros(4, 3, dtype=torch.float64), 0.0, 0.0, 0.0
    m = v = torch.zeros_like(weight)
    step = 0
    for t, gradients in enumerate(random_gradients(35), start=1):
        grad = torch.tensor(gradients[0])
        parameter.grad = grad.clone()
        optimizer.step()
        largest = 0.999 * largest + 0.001 * grad.abs().max()
        limit = largest / (1 - 0.999**t)
        grad = torch.where(grad.abs() > limit, grad / grad.abs().max() * limit, grad)
        norm = grad.norm()
        mean, square = 0.7 * mean + 0.3 * norm, 0.9 * square + 0.1 * norm**2
        grad = grad / norm * (mean / (1 - 0.7**t)) / ((square / (1 - 0.9**t)).sqrt() + 1e-8)
        if t % 10 == 0:
            m, v, step = torch.zeros_like(weight), torch.zeros_like(weight), 0
        step += 1
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        weight = weight - 0.1 * m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(parameter.data, weight, rtol=1e-9, atol=1e-12)


def test_spams_spike_clip_reads_the_moments_that_were_reset():
    parameters = named_parameters()
    optimizer = torch.optim.Adam(tensors(parameters))
    SpikeClip(theta=4.0, second_moment="optimizer").attach(optimizer, parameters)
    MomentumReset(5).attach(optimizer)
    take(optimizer, parameters, random_gradients(12))
    assert all(parameter.isfinite().all() for parameter in tensors(parameters))
    assert optimizer.state[parameters[0][1]]["step"] == 3  # 10 to 12


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (partial(torch.optim.SGD, momentum=0.9), "momentum_buffer"),
        (torch.optim.RMSprop, "square_avg"),
        (torch.optim.Adagrad, "sum"),
        (torch.optim.Rprop, "prev"),
    ],
)
def test_other_kinds_of_optimizers_are_refused_at_once(make, kept):
    parameters = named_parameters()
    optimizer = make(tensors(parameters), lr=0.01)
    MomentumReset().attach(optimizer)
    with pytest.raises(ValueError, match=f"keeps .*{kept}.*; a momentum reset needs one of Adam's kind"):
        take(optimizer, parameters, random_gradients(2))


def test_what_is_refused():
    with pytest.raises(ValueError, match="interval: expected a whole number >= 1, got 0"):
        MomentumReset(0)
    optimizer = torch.optim.Adam(tensors(named_parameters()))
    reset = MomentumReset().attach(optimizer)
    with pytest.raises(ValueError, match=r"this MomentumReset has one already; remove\(\) it there, or make another"):
        reset.attach(optimizer)
    optimizer.first_step = None  # SAM's kind
    with pytest.raises(ValueError, match="Adam is stepped by first_step and second_step, which run no hooks"):
        MomentumReset().attach(optimizer)
    with pytest.raises(TypeError, match="optimizer: expected a torch.optim.Optimizer, got Linear"):
        MomentumReset().attach(torch.nn.Linear(1, 1))
    for state, message in (
        ({"strategy": "AutoClip"}, "strategy: the state is of 'AutoClip'"),
        ({**reset.state_dict(), "steps": -1}, "steps: expected a whole number in \\[0, 2\\*\\*63\\), got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            reset.load_state_dict(state)


def test_a_removed_one_resets_no_more():
    parameters = named_parameters()
    optimizer = torch.optim.Adam(tensors(parameters))
    reset = MomentumReset(2).attach(optimizer)
    take(optimizer, parameters, random_gradients(3))
    reset.remove()
    take(optimizer, parameters, random_gradients(4))
    assert (reset.steps, int(optimizer.state[parameters[0][1]]["step"])) == (3, 6)
    reset.attach(optimizer)
    assert copy.deepcopy(reset).attach(torch.optim.Adam(tensors(parameters))).steps == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_step_is_refused():
    parameter = torch.nn.Parameter(torch.ones(3, device="cuda"))
    optimizer = torch.optim.Adam([parameter], capturable=True)
    MomentumReset().attach(optimizer)
    parameter.grad = torch.ones(3, device="cuda")
    optimizer.step()
    with (
        pytest.raises(ValueError, match="interval: a captured CUDA graph can't count its steps"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        optimizer.step()


def test_a_step_that_calls_its_parents_counts_once():
    class Own(torch.optim.Adam):
        def step(self, closure=None):
            return super().step(closure)

    weight = torch.nn.Parameter(torch.ones(2))
    torch.optim.Adam([weight])  # from the first instance on, its class's step runs hooks
    optimizer = Own([weight])
    reset = MomentumReset(interval=10).attach(optimizer)
    weight.grad = torch.ones(2)
    for _ in range(3):
        optimizer.step()
    assert reset.steps == 3
