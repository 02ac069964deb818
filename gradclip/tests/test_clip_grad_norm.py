"""`clipper.clip_grad_norm_` where trainers call `torch.nn.utils.clip_grad_norm_`."""

import inspect
import math
from functools import partial
from unittest import mock

import pytest
import torch
from torch import nn

from gradclip import AGC, AutoClip, AutoClipOnDevice, FixedClip, NonFiniteGradientError, SkipSpikes
from strategies import gradients_of, make, named_parameters, random_gradients, set_gradients

STEPS = random_gradients(20)


def tensors(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [parameter for _, parameter in named_parameters(dtype)]


def test_the_signature_is_torchs():
    theirs = inspect.signature(nn.utils.clip_grad_norm_).parameters
    ours = inspect.signature(AutoClip().clip_grad_norm_).parameters
    assert list(ours) == list(theirs)
    defaults = [parameter.default for name, parameter in theirs.items() if name != "max_norm"]
    assert [parameter.default for name, parameter in ours.items() if name != "max_norm"] == defaults


@pytest.mark.parametrize("make_clipper", [AutoClip, partial(AutoClipOnDevice, window=50)], ids=["host", "device"])
def test_equals_clip_(make_clipper):
    """With what trainers pass: a generator and a maximum, by position or by name."""
    one, two = named_parameters(), named_parameters()
    clipper, by_hand = make_clipper(p=25), make_clipper(p=25)
    for step, gradients in enumerate(STEPS):
        set_gradients(one, gradients)
        set_gradients(two, gradients)
        parameters = (parameter for _, parameter in one)
        args, kwargs = ((1e-9,), {}) if step % 2 else ((), {"max_norm": 1e-9})
        norm = clipper.clip_grad_norm_(parameters, *args, **kwargs)
        assert norm.shape == () and norm.item() == by_hand.clip_(two).grad_norm
        assert all((a == b).all() for a, b in zip(gradients_of(one), gradients_of(two), strict=True))
    assert clipper.clipped_fraction == by_hand.clipped_fraction > 0.3


@pytest.mark.parametrize(
    ("dtype", "returned"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.complex64, torch.float32)],
)
def test_returns_a_scalar_like_torchs(dtype, returned):
    parameter = nn.Parameter(torch.zeros(4, dtype=dtype))
    parameter.grad = torch.full((4,), 2.0, dtype=dtype)
    norm = FixedClip(1.0).clip_grad_norm_(parameter)
    assert norm.dtype == returned and norm.shape == () and norm.item() == 4.0
    assert parameter.grad.abs().tolist() == [0.5] * 4


def test_no_gradients_are_a_norm_of_zero_as_in_torch():
    assert AutoClip().clip_grad_norm_(tensors()).item() == nn.utils.clip_grad_norm_(tensors(), 1.0).item() == 0.0
    with pytest.raises(ValueError, match="parameters: got none"):
        AutoClip().clip_grad_norm_([])
    with pytest.raises(TypeError, match="parameters: expected tensors"):
        AutoClip().clip_grad_norm_(["weight"])


@pytest.mark.parametrize("make_optimizer", [torch.optim.AdamW, lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=1)])
def test_a_step_that_is_to_be_left_out_moves_nothing(make_optimizer):
    """Neither by momentum nor by weight decay, though the trainer steps."""
    parameters = named_parameters()
    only = [parameter for _, parameter in parameters]
    optimizer, clipper = make_optimizer(only), AutoClip()
    set_gradients(parameters, STEPS[0])
    clipper.clip_grad_norm_(only)
    optimizer.step()
    before = [parameter.detach().clone() for parameter in only]
    set_gradients(parameters, STEPS[1])
    only[1].grad[0] = math.nan
    assert math.isnan(clipper.clip_grad_norm_(only))
    optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, only, strict=True)) and clipper.nonfinite_steps == 1
    set_gradients(parameters, STEPS[2])
    clipper.clip_grad_norm_(only)
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, only, strict=True))


def test_a_spike_leaves_no_gradients():
    parameters = named_parameters()
    clipper = SkipSpikes(window=4)
    for scale in (1.0, 1.01, 1.02, 0.99, 1e6):
        set_gradients(parameters, STEPS[0], scale)
        norm = clipper.clip_grad_norm_([parameter for _, parameter in parameters])
    assert norm > 1e6 and all(parameter.grad is None for _, parameter in parameters)


def test_error_if_nonfinite():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, math.inf])
    with pytest.raises(NonFiniteGradientError, match="the gradient's norm is inf"):
        AutoClip().clip_grad_norm_(parameter, error_if_nonfinite=True)
    assert torch.isinf(AutoClip().clip_grad_norm_(parameter))


@pytest.mark.parametrize("norm_type", [1, math.inf, "inf", "a", None])
def test_refuses_other_norms(norm_type):
    with pytest.raises(ValueError, match="norm_type: expected 2, got .*; AutoClip bounds the L2 norm"):
        AutoClip().clip_grad_norm_(tensors(), 1.0, norm_type)


def test_a_strategy_that_needs_names_says_so():
    parameters = named_parameters()
    set_gradients(parameters, STEPS[0])
    with pytest.raises(ValueError, match="AGC works tensor by tensor and needs names"):
        AGC().clip_grad_norm_([parameter for _, parameter in parameters])
    assert make("adagc").clip_grad_norm_(parameters) > 0


def test_in_a_trainer_that_calls_torchs_function():
    """Its module is changed for as long as the training takes."""
    model = nn.Linear(3, 1)
    model(torch.ones(1, 3)).sum().backward()
    with mock.patch("torch.nn.utils.clip_grad_norm_", FixedClip(0.5).clip_grad_norm_):
        assert nn.utils.clip_grad_norm_(model.parameters(), 100.0, norm_type=2.0).item() == 2.0
    assert math.hypot(*(parameter.grad.norm().item() for parameter in model.parameters())) == pytest.approx(0.5)
