import functools
import io
import math

import numpy as np
import pytest
import torch

from gradclip import AutoClip, ClipResult, FixedClip, NoClip


@functools.cache
def parameters_of(sizes: tuple[int, ...], dtype: torch.dtype) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(size, dtype=dtype)) for size in sizes]


def parameters_with(*grads: list[float], dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    """The same parameters whenever the sizes are the same: a clipper belongs to the first it meets."""
    parameters = parameters_of(tuple(len(grad) for grad in grads), dtype)
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.tensor(grad, dtype=dtype)
    return parameters


def test_norm_is_taken_over_all_parameters():
    parameters = parameters_with([3.0, 0.0], [4.0])
    result = NoClip().clip_(parameters)
    assert result == ClipResult(grad_norm=5.0, threshold=math.inf, coefficient=1.0, should_step=True)
    assert not result.clipped
    assert parameters[0].grad.tolist() == [3.0, 0.0]


def test_fixed_scales_to_the_threshold_without_epsilon():
    parameters = parameters_with([3.0], [4.0])
    result = FixedClip(max_norm=2.5).clip_(parameters)
    assert (result.threshold, result.coefficient, result.clipped) == (2.5, 0.5, True)
    assert [p.grad.item() for p in parameters] == [1.5, 2.0]


def test_a_gradient_below_the_threshold_stays_bit_identical_however_small():
    parameters = parameters_with([3e-6], [4e-6])
    before = [p.grad.clone() for p in parameters]
    assert FixedClip(max_norm=1e-5).clip_(parameters).coefficient == 1.0
    assert all(torch.equal(p.grad, b) for p, b in zip(parameters, before, strict=True))


def test_autoclip_thresholds_are_numpys_percentiles_of_the_whole_history():
    norms = [5.0, 1.0, 4.0, 2.0, 8.0]
    clipper = AutoClip(p=10)
    for step, norm in enumerate(norms, start=1):
        parameters = parameters_with([norm])
        result = clipper.clip_(parameters)
        threshold = np.percentile(norms[:step], 10)
        assert result.threshold == threshold
        assert result.coefficient == min(1.0, threshold / norm)
        assert parameters[0].grad.item() == np.float32(norm) * np.float32(result.coefficient)


def test_the_first_step_is_never_clipped_and_p_100_clips_nothing():
    random = np.random.default_rng(1)
    clipper = AutoClip(p=100)
    assert not any(clipper.clip_(parameters_with([norm])).clipped for norm in random.lognormal(0, 2, 50))
    assert not AutoClip(p=0).clip_(parameters_with([7.0])).clipped


@pytest.mark.parametrize("power", [-40, -7, 13, 40])
def test_decisions_do_not_depend_on_the_losses_scale(power):
    grads = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    plain, scaled = AutoClip(p=25), AutoClip(p=25)
    for grad in grads:
        [parameter] = parameters_with(grad.tolist())
        first, one = plain.clip_(parameter), parameter.grad
        [parameter] = parameters_with((grad * 2.0**power).tolist())
        second, two = scaled.clip_(parameter), parameter.grad
        assert first.coefficient == second.coefficient
        assert first.threshold * 2.0**power == second.threshold
        assert torch.equal(one * 2.0**power, two)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_is_skipped_and_leaves_no_trace(bad):
    clipper, reference = AutoClip(p=50), AutoClip(p=50)
    for norm in (1.0, 2.0):
        clipper.clip_(parameters_with([norm, 0.0]))
        reference.clip_(parameters_with([norm, 0.0]))
    result = clipper.clip_(parameters_with([1.0, bad]))
    assert not result.should_step and math.isnan(result.threshold) and not result.clipped
    assert clipper.clip_(parameters_with([9.0, 0.0])) == reference.clip_(parameters_with([9.0, 0.0]))


def test_a_zero_gradient_passes_and_is_not_recorded():
    clipper = AutoClip(p=0)
    assert clipper.clip_(parameters_with([0.0])) == ClipResult(0.0, math.inf, 1.0)
    clipper.clip_(parameters_with([3.0]))
    assert clipper.clip_(parameters_with([0.0])) == ClipResult(0.0, 3.0, 1.0)
    assert clipper.clip_(parameters_with([6.0])).coefficient == 0.5


def test_half_precision_norms_do_not_overflow():
    # 100 entries of 15,811: the true norm, 158,110, is beyond float16.
    result = NoClip().clip_(parameters_with([15811.0] * 100, dtype=torch.float16))
    assert result.grad_norm == pytest.approx(158114, rel=1e-3)


def test_takes_a_tensor_named_pairs_and_parameters_without_gradient():
    model = torch.nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert NoClip().clip_(model.parameters()).grad_norm == 5.0
    assert NoClip().clip_(model.named_parameters()).grad_norm == 5.0
    assert NoClip().clip_(model.weight).grad_norm == 5.0


def test_a_restored_clipper_goes_on_as_if_never_stopped():
    norms = np.random.default_rng(2).lognormal(0, 1, 40)
    clipper, restored = AutoClip(p=33.3), AutoClip(p=33.3)
    for norm in norms[:20]:
        clipper.clip_(parameters_with([norm]))
    file = io.BytesIO()
    torch.save(clipper.state_dict(), file)
    file.seek(0)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for norm in norms[20:]:
        assert clipper.clip_(parameters_with([norm])) == restored.clip_(parameters_with([norm]))


def test_another_strategys_state_is_refused():
    with pytest.raises(ValueError, match="'FixedClip' and can't be loaded into AutoClip"):
        AutoClip().load_state_dict(FixedClip(1.0).state_dict())


@pytest.mark.parametrize("p", [-1, 101, math.nan, True, "10", None])
def test_bad_percentiles_are_named(p):
    with pytest.raises((ValueError, TypeError), match=r"p: expected a percentile in \[0, 100\], got"):
        AutoClip(p=p)


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan, False, "1"])
def test_bad_norms_are_named(max_norm):
    with pytest.raises((ValueError, TypeError), match="max_norm: expected a number > 0, got"):
        FixedClip(max_norm=max_norm)


def test_missing_gradients_are_an_error():
    generator = torch.nn.Linear(1, 1).parameters()
    list(generator)
    with pytest.raises(ValueError, match="exhausted"):
        NoClip().clip_(generator)
    with pytest.raises(ValueError, match=r"none of the 2 has a gradient; call loss.backward\(\) first"):
        NoClip().clip_(torch.nn.Linear(1, 1).parameters())
    with pytest.raises(TypeError, match="expected tensors or"):
        NoClip().clip_([1.0])
