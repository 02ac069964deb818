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
