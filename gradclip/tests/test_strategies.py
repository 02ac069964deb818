"""What holds for every strategy."""

import io
import math

import numpy as np
import pytest
import torch

from gradclip import Clipper, FixedClip, NonFiniteGradientError
from strategies import STRATEGIES, clip, gradients_of, make, named_parameters, random_gradients, set_gradients

SCALE_INVARIANT = ("adaclip", "aggc", "autoclip", "autoclip_on_device", "none", "spam", "spectral", "zclip")
"""Multiplying the loss by a power of two multiplies what these let through by it, to the last bit."""


def saved_and_loaded(clipper: Clipper) -> dict:
    file = io.BytesIO()
    torch.save(clipper.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


PARAMETERS = named_parameters()


def run(clipper: Clipper, steps: list[list[np.ndarray]], scale: float = 1.0) -> list[tuple]:
    """Results and clipped gradients of some steps."""
    parameters, outcomes = PARAMETERS, []
    for gradients in steps:
        set_gradients(parameters, gradients, scale)
        result = clip(clipper, parameters)
        values = (result.grad_norm, result.threshold, result.coefficient, result.should_step)
        outcomes.append((values, [gradient.tobytes() for gradient in gradients_of(parameters)]))
    return outcomes


@pytest.mark.parametrize("name", STRATEGIES)
def test_restored_and_never_stopped_are_bit_identical(name):
    steps = random_gradients(260)
    clipper = make(name)
    run(clipper, steps[:130])
    restored = make(name)
    restored.load_state_dict(saved_and_loaded(clipper))
    assert run(restored, steps[130:]) == run(clipper, steps[130:])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", STRATEGIES)
def test_after_a_non_finite_gradient_all_is_as_if_it_had_not_been(name, bad):
    steps = random_gradients(40)
    clipper, reference = make(name), make(name)
    run(clipper, steps[:20])
    run(reference, steps[:20])
    parameters = PARAMETERS
    set_gradients(parameters, steps[20])
    parameters[2][1].grad[1, 3] = bad
    result = clip(clipper, parameters)
    assert not result.should_step and math.isnan(result.threshold) and not math.isfinite(result.grad_norm)
    assert clipper.nonfinite_steps == 1
    assert run(clipper, steps[20:]) == run(reference, steps[20:])


@pytest.mark.parametrize("name", STRATEGIES)
def test_zero_instead_of_a_non_finite_gradient(name):
    clipper, parameters = make(name, on_nonfinite="zero"), named_parameters()
    set_gradients(parameters, random_gradients(1)[0])
    parameters[0][1].grad[0, 0] = math.nan
    result = clip(clipper, parameters)
    assert result.should_step and result.coefficient == 0
    assert all((parameter.grad == 0).all() for _, parameter in parameters)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if not make(name).on_device])
def test_raise_names_the_parameters(name):
    clipper, parameters = make(name, on_nonfinite="raise"), named_parameters()
    set_gradients(parameters, random_gradients(1)[0])
    parameters[1][1].grad[2] = math.nan
    parameters[2][1].grad[0, 0] = math.inf
    with pytest.raises(NonFiniteGradientError, match="NaN or infinity in encoder.bias, mask.weight$"):
        clip(clipper, parameters)
    assert clipper.nonfinite_steps == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_zero_gradients_pass_and_leave_no_trace(name):
    steps = random_gradients(130)
    zeros = [np.zeros_like(gradient) for gradient in steps[0]]
    clipper, reference = make(name), make(name)
    [(_, after)] = run(clipper, [zeros])
    assert after == [gradient.tobytes() for gradient in zeros]
    if name == "adagc":
        run(reference, [zeros])  # its warm-up counts steps
    assert run(clipper, steps) == run(reference, steps)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_tensor_of_zeros_freezes_nothing(name):
    parameters = named_parameters()
    clipper = make(name)
    for gradients in random_gradients(120):
        set_gradients(parameters, [gradients[0], np.zeros_like(gradients[1]), *gradients[2:]])
        clip(clipper, parameters)
        assert (parameters[1][1].grad == 0).all() and all(p.grad.isfinite().all() for _, p in parameters)
    set_gradients(parameters, random_gradients(1)[0])
    clip(clipper, parameters)
    assert (parameters[1][1].grad != 0).all()


@pytest.mark.parametrize("power", [-40, -7, 40])
@pytest.mark.parametrize("name", SCALE_INVARIANT)
def test_the_losses_scale_makes_no_difference(name, power):
    steps = random_gradients(100)
    plain, scaled = run(make(name), steps), run(make(name), steps, 2.0**power)
    for (first, gradients), (second, scaled_gradients) in zip(plain, scaled, strict=True):
        assert first[2:] == second[2:] and first[1] * 2.0**power == second[1]
        for one, two in zip(gradients, scaled_gradients, strict=True):
            assert (np.frombuffer(one) * 2.0**power == np.frombuffer(two)).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_states_are_refused_by_name(name):
    clipper = make(name)
    run(clipper, random_gradients(3))
    state = saved_and_loaded(clipper)
    other = next(choice for choice in STRATEGIES if choice != name)
    with pytest.raises(ValueError, match=f"strategy: the state is of '{type(clipper).__name__}' and can't be loaded"):
        make(other).load_state_dict(state)
    with pytest.raises(ValueError, match="version: expected 2, got 3"):
        clipper.load_state_dict({**state, "version": 3})
    with pytest.raises(ValueError, match="state: expected a dictionary"):
        clipper.load_state_dict(None)
    for field in set(state) - {"strategy", "version"}:
        before = saved_and_loaded(clipper)
        with pytest.raises((ValueError, TypeError), match=field):
            clipper.load_state_dict({key: value for key, value in state.items() if key != field})
        with pytest.raises((ValueError, TypeError), match=field):
            clipper.load_state_dict({**state, field: "nonsense"})
        assert str(saved_and_loaded(clipper)) == str(before)
    with pytest.raises(ValueError, match=r"finite_steps: expected a whole number in \[0, 2\*\*63\), got 1"):
        clipper.load_state_dict({**state, "finite_steps": 10**30})
    assert str(saved_and_loaded(clipper)) == str(state)


def test_a_restored_memory_of_another_model_is_refused():
    for name in ("adagc", "adagn", "adaclip", "spam", "error_feedback", "autoclip_per_tensor", "aggc", "spectral"):
        clipper, parameters = make(name), named_parameters()
        set_gradients(parameters, random_gradients(1)[0])
        clip(clipper, parameters)
        restored = make(name)
        restored.load_state_dict(saved_and_loaded(clipper))
        with pytest.raises(ValueError, match="none of them has a name of the restored state, such as 'encoder"):
            restored.clip_([(f"other.{key}", parameter) for key, parameter in parameters])


@pytest.mark.parametrize(("name", "field"), [("spam", "moments"), ("error_feedback", "errors")])
def test_a_restored_memory_of_another_shape_is_refused(name, field):
    clipper, steps = make(name), random_gradients(2)
    run(clipper, steps)
    state = clipper.state_dict()
    clipper.load_state_dict({**state, field: (*state[field], ("mask.bias", torch.ones(3)))})
    with pytest.raises(ValueError, match=r"state\['mask.bias'\]: has shape \(3,\), the gradient \(2,\)"):
        run(clipper, steps)


def test_settings_that_shape_the_memory_have_to_be_the_same():
    for name, settings, message in (
        ("zclip", {"warmup": 10}, "warmup: the state was saved with 25, this clipper has 10"),
        ("autoclip", {"window": 10}, "window: the state was saved with None, this clipper has 10"),
        ("autoclip", {"groups": "tensor"}, "groups: the state was saved with None, this clipper has 'tensor'"),
        ("skip_spikes", {"window": 10}, "window: the state was saved with 128"),
        ("autoclip_on_device", {"window": 10}, "window: the state was saved with None"),
        ("spam", {"second_moment": "optimizer"}, "second_moment: the state was saved with 'own'"),
    ):
        with pytest.raises(ValueError, match=message):
            make(name, **settings).load_state_dict(make(name).state_dict())


def test_a_chain_restores_all_of_its_members_or_none():
    chain = make("chain")
    run(chain, random_gradients(5))
    state, fresh = saved_and_loaded(chain), make("chain")
    before = str(fresh.state_dict())
    state["clippers"]["second"]["history"] = "x"
    with pytest.raises(ValueError, match=r"clippers\['second'\]: history: expected pairs of a name and a value"):
        fresh.load_state_dict(state)
    assert str(fresh.state_dict()) == before


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("adaclip", "means", {"encoder.weight": [1.0]}),
        ("adagn", "moments", {"encoder.weight": [1.0, 2.0, 0]}),
        ("adagc", "gamma", {"encoder.weight": [0.0]}),
        ("adagc", "gamma", {"encoder.weight": [10**400]}),
        ("autoclip", "history", {"encoder.weight": torch.ones(3, dtype=torch.float64)}),
        ("autoclip", "history", {"all": torch.ones(3, dtype=torch.bool)}),
        ("autoclip", "history", {"all": torch.ones(3, device="meta")}),
        ("autoclip", "window", torch.ones(3)),
        ("zclip", "mean", 10**400),
        ("spam", "moments", {"encoder.weight": torch.ones(4, 3, dtype=torch.int64)}),
    ],
)
def test_damaged_states_are_refused(name, field, value):
    clipper = make(name)
    run(clipper, random_gradients(3))
    with pytest.raises(ValueError, match=field):
        clipper.load_state_dict({**clipper.state_dict(), field: value})


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_state_is_a_copy(name):
    clipper, steps = make(name), random_gradients(30)
    run(clipper, steps[:20])
    state = clipper.state_dict()
    before = str(state)
    run(clipper, steps[20:])
    assert str(state) == before


@pytest.mark.parametrize("name", STRATEGIES)
def test_inference_mode_leaves_nothing_behind(name):
    steps, clipper, reference = random_gradients(10), make(name), make(name)
    with torch.inference_mode():
        run(clipper, steps[:5])
    run(reference, steps[:5])
    assert run(clipper, steps[5:]) == run(reference, steps[5:])


@pytest.mark.parametrize("name", STRATEGIES)
def test_results_describe_what_happened(name):
    clipper = make(name)
    parameters = named_parameters()
    for gradients in random_gradients(150):
        set_gradients(parameters, gradients)
        result = clip(clipper, parameters)
        before, after = (math.sqrt(sum((g**2).sum() for g in grads)) for grads in (gradients, gradients_of(parameters)))
        assert result.grad_norm == pytest.approx(before, rel=1e-12)
        assert result.coefficient == pytest.approx(after / before, rel=1e-12)
        if result.should_step:
            assert after <= result.threshold * (1 + 1e-12)


@pytest.mark.parametrize("name", STRATEGIES)
def test_on_nonfinite_is_checked(name):
    with pytest.raises(ValueError, match="on_nonfinite: expected one of skip, .*, got 'ignore'"):
        make(name, on_nonfinite="ignore")


def test_a_result_can_be_printed():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    expected = "ClipResult(grad_norm=5.0, threshold=2.5, coefficient=0.5, should_step=True)"
    assert repr(FixedClip(2.5).clip_(parameter)) == expected
