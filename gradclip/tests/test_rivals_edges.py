"""What single strategies do beside their equations."""

import math

import numpy as np
import pytest
import torch

from gradclip import Chain, ClipResult, FixedClip
from strategies import gradients_of, make, named_parameters, random_gradients, set_gradients
from test_rivals import norm_of


def test_with_groups_the_threshold_is_the_norm_of_the_groups_thresholds():
    clipper, parameters = make("autoclip_per_tensor", p=0), [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for norms in ((3.0, 4.0), (6.0, 8.0)):
        for parameter, norm in zip(parameters, norms, strict=True):
            parameter.grad = torch.tensor([norm])
        result = clipper.clip_([("a", parameters[0]), ("b", parameters[1])])
    assert result == ClipResult(grad_norm=10.0, threshold=5.0, coefficient=0.5)


def test_block_normalized_blocks_have_norm_one():
    parameters, gradients = named_parameters(), random_gradients(1)[0]
    set_gradients(parameters, gradients)
    result = make("block_normalized", groups="module").clip_(parameters)
    got = gradients_of(parameters)
    for block in ([0, 1], [2, 3]):
        for i in block:
            np.testing.assert_allclose(got[i], gradients[i] / norm_of(*(gradients[j] for j in block)), rtol=1e-12)
    assert result.threshold == math.sqrt(2)


def test_skip_spikes_leaves_out_norms_above_six_sigma_of_the_last_log_norms():
    clipper, parameters, norms, skipped = make("skip_spikes"), named_parameters(), [], 0
    random = np.random.default_rng(4)
    for gradients in random_gradients(600, seed=5):
        scale = 1e4 if random.random() < 0.01 else 1.0
        set_gradients(parameters, gradients, scale)
        norm = norm_of(*gradients) * scale
        result = clipper.clip_(parameters)
        logs = np.log(norms[-128:])
        threshold = np.mean(logs) + 6 * np.std(logs, ddof=1) if len(logs) >= 64 else math.inf
        assert math.log(result.threshold) == pytest.approx(threshold, rel=1e-12)
        assert result.should_step == (math.log(norm) <= threshold) and result.coefficient == 1
        skipped += not result.should_step
        norms.append(norm)
    assert skipped >= 2


def test_a_lasting_change_of_level_is_accepted_after_a_few_skipped_steps():
    clipper, parameter = make("skip_spikes"), torch.nn.Parameter(torch.zeros(1))
    random = np.random.default_rng(6)
    outcomes = []
    for step in range(300):
        parameter.grad = torch.tensor([random.lognormal(0, 0.2) * (1000 if step >= 150 else 1)])
        outcomes.append(clipper.clip_([parameter]).should_step)
    assert all(outcomes[:150]) and not outcomes[150] and all(outcomes[160:])


def test_constant_norms_have_no_spikes_below_six_thousandths():
    clipper, parameter = make("skip_spikes"), torch.nn.Parameter(torch.zeros(1))
    for norm, steps in [(5.0, True)] * 100 + [(5.025, True), (5.05, False)]:
        parameter.grad = torch.tensor([norm])
        result = clipper.clip_([parameter])
        assert result.should_step == steps
    mean = math.log(5) + math.log(1.005) / 101
    assert result.threshold == pytest.approx(math.exp(mean + 6 * 0.001), rel=1e-7)
    with pytest.raises(ValueError, match="k: expected a finite number > 0, got inf"):
        make("skip_spikes", k=math.inf)


def test_agcs_last_layer_is_the_models_whether_it_has_gradients_or_not():
    parameters = named_parameters()
    set_gradients(parameters, [100 * array for array in random_gradients(1)[0]])
    parameters[2][1].grad = parameters[3][1].grad = None
    assert make("agc").clip_(parameters).coefficient < 0.1
    with pytest.raises(ValueError, match="exclude: 'last' leaves out everything, since there is one module"):
        make("agc").clip_(parameters[:2])
    with pytest.raises(ValueError, match="transposed: no parameter is called 'typo'; there are encoder.weight"):
        make("agc", transposed=["typo"]).clip_(parameters)


def test_agc_on_transposed_weights_and_chosen_layers():
    parameters = named_parameters()
    gradients = random_gradients(1)[0]
    set_gradients(parameters, [100 * array for array in gradients])
    make("agc", exclude=["encoder.*"], transposed=["mask.weight"]).clip_(parameters)
    assert np.array_equal(parameters[0][1].grad, 100 * gradients[0])
    weight, grad = parameters[2][1].detach(), parameters[2][1].grad
    np.testing.assert_allclose(grad.norm(dim=0), 0.01 * weight.norm(dim=0), rtol=1e-12)  # units are columns


def test_zero_initialised_weights_move_under_agc():
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    parameter.grad = torch.ones(2, 3)
    make("agc", exclude=[]).clip_([("w", parameter)])
    np.testing.assert_allclose(parameter.grad.norm(dim=1), 0.01 * 1e-3, rtol=1e-6)


def test_spam_can_read_adams_second_moment():
    parameters = named_parameters()
    optimizer = torch.optim.Adam(parameters, lr=0.1)
    clipper = make("spam", second_moment="optimizer", theta=4)
    attachment = clipper.attach(optimizer)
    set_gradients(parameters, random_gradients(1)[0])
    optimizer.step()
    assert not attachment.result.clipped  # nothing to compare with yet
    moments = [optimizer.state[parameter]["exp_avg_sq"].clone() for _, parameter in parameters]
    set_gradients(parameters, [100 * array for array in random_gradients(1)[0]])
    optimizer.step()
    for (_, parameter), moment in zip(parameters, moments, strict=True):
        np.testing.assert_allclose(parameter.grad.abs(), (4 * moment).sqrt(), rtol=1e-12)


def test_a_chain_is_one_strategy_after_the_other():
    chain = Chain([make("adaclip"), make("adagn")])
    first, second = make("adaclip"), make("adagn")
    together, apart = named_parameters(), named_parameters()
    for gradients in random_gradients(50):
        set_gradients(together, gradients)
        set_gradients(apart, gradients)
        chain.clip_(together)
        first.clip_(apart)
        second.clip_(apart)
        for one, two in zip(gradients_of(together), gradients_of(apart), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-12)


@pytest.mark.parametrize("max_norms", [(1.0, 2.0), (2.0, 1.0)])
def test_a_chains_threshold_is_the_smallest_of_its_members(max_norms):
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    result = Chain(map(FixedClip, max_norms)).clip_(parameter)
    assert (result.grad_norm, result.threshold) == (5.0, 1.0) and result.coefficient == pytest.approx(0.2)
    torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]))


def test_behind_a_skipped_step_a_chain_records_nothing():
    chain, parameters = make("chain"), named_parameters()
    steps = random_gradients(100)
    for gradients in steps:
        set_gradients(parameters, gradients)
        chain.clip_(parameters)
    set_gradients(parameters, steps[0], 1e9)
    assert not chain.clip_(parameters).should_step
    history = chain.clippers["second"].history
    assert len(history) == 100 and max(history) < 1e6


def test_aggc_raises_small_norms_to_a_multiple_of_their_mean_but_not_zero():
    clipper, parameter = make("aggc", beta=0.5, high=1.5, low=0.5, transition=None), torch.nn.Parameter(torch.zeros(2))
    results = []
    for norm in (4.0, 0.4, 0.0, 40.0, 4.0):
        parameter.grad = torch.tensor([0.6 * norm, 0.8 * norm])
        result = clipper.clip_([("layer.weight", parameter)])
        results.append((result.grad_norm * result.coefficient, result.threshold))
    # Means: 4, 2.2, as before, 21.1, 12.55.
    expected = [(4.0, 6.0), (1.1, 3.3), (0.0, math.inf), (31.65, 31.65), (6.275, 18.825)]
    np.testing.assert_allclose(results, expected, rtol=1e-6)


def test_aggcs_multiples_run_from_their_first_to_their_late_values():
    settings = {"beta": 0.0, "high": 0.8, "high_late": 0.4, "low": 0.0, "transition": (2, 6)}
    clipper, parameter, coefficients = make("aggc", **settings), torch.nn.Parameter(torch.zeros(1)), []
    for _ in range(9):
        parameter.grad = torch.tensor([3.0])
        coefficients.append(clipper.clip_([("weight", parameter)]).coefficient)
    np.testing.assert_allclose(coefficients, [0.8, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.4], rtol=1e-6)
    parameter.grad = torch.tensor([1e-3])
    clipper = make("aggc", beta=0.0, high=2.0, low=0.0, min_norm=0.0015, transition=None)
    assert clipper.clip_([("weight", parameter)]).coefficient == pytest.approx(1.5)


def test_aggc_leaves_a_group_of_zeros_out_of_its_memory():
    clipper, parameters = make("aggc"), named_parameters()
    gradients = random_gradients(1)[0]
    set_gradients(parameters, [0 * gradients[0], 0 * gradients[1], *gradients[2:]])
    result = clipper.clip_(parameters)
    assert [group for group, _ in clipper.state_dict()["means"]] == ["mask"]
    assert result.threshold == pytest.approx(0.6 * norm_of(*gradients[2:]), rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0.7}, r"low: expected a number in \[0, high=0.6\], got 0.7"),
        ({"low": 0.0, "low_late": 0.98}, r"low_late: expected a number in \[0, high_late=0.7\], got 0.98"),
        ({"high": math.inf}, "high: expected a finite number > 0, got inf"),
        ({"min_norm": -1}, "min_norm: expected a finite number >= 0, got -1"),
        ({"transition": (5, 5)}, r"transition: expected the first step below the second, got \(5, 5\)"),
        ({"transition": [1]}, r"transition: expected two steps such as \(4000, 7000\), got \[1\]"),
        ({"transition": (0.4, 0.7)}, "transition: expected a whole number >= 0, got 0.4"),
    ],
)
def test_aggcs_arguments(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make("aggc", **settings)


def test_skip_above_steps_at_its_limit_and_not_above():
    clipper, parameter = make("skip_above", max_norm=5.0), torch.nn.Parameter(torch.zeros(2))
    for scale, should_step in ((1.0, True), (1.001, False), (0.1, True)):
        parameter.grad = grad = scale * torch.tensor([3.0, 4.0])
        result = clipper.clip_([parameter])
        assert (result.should_step, result.threshold, result.coefficient) == (should_step, 5.0, 1.0)
        assert parameter.grad is grad
