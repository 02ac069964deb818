import copy
import math

import pytest
import torch

from gradclip import AutoClip, Chain, FixedClip, NoClip, SkipAbove
from strategies import make, named_parameters, random_gradients, set_gradients

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adam": {},
    "AdamW": {},
    "NAdam": {},
    "RAdam": {},
    "Adamax": {},
    "Adadelta": {},
    "Adagrad": {},
    "ASGD": {},
    "RMSprop": {},
    "Rprop": {},
    "Adafactor": {},
}
FUSED = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adam": {}, "AdamW": {}, "Adagrad": {}}
CASES = [*OPTIMIZERS.items(), *((name, {**options, "fused": True}) for name, options in FUSED.items())]
IDS = [name + "-fused" * ("fused" in options) for name, options in CASES]
STEPS = random_gradients(30)


def optimizer_for(parameters, name: str, options: dict) -> torch.optim.Optimizer:
    return getattr(torch.optim, name)([parameter for _, parameter in parameters], **options)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("fold", [True, False])
def test_equals_clipping_before_the_step(name, options, fold):
    """To the last bit, also where a fused optimizer multiplies by the coefficient itself."""
    attached, by_hand = named_parameters(torch.float32), named_parameters(torch.float32)
    one, two = optimizer_for(attached, name, options), optimizer_for(by_hand, name, options)
    attachment, clipper = AutoClip(p=25).attach(one, fold=fold), AutoClip(p=25)
    clipped = 0
    for gradients in STEPS:
        set_gradients(attached, gradients)
        set_gradients(by_hand, gradients)
        one.step()
        result = clipper.clip_(by_hand)
        two.step()
        assert attachment.result == result
        clipped += result.clipped
        for (_, first), (_, second) in zip(attached, by_hand, strict=True):
            assert torch.equal(first, second)
            for key, value in one.state[first].items():  # keeps bits of the gradient that the parameters round away
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(two.state[second][key]))
        assert not hasattr(one, "grad_scale") and not hasattr(one, "found_inf")
    assert clipped > 10


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_a_skipped_step_leaves_parameters_and_optimizer_as_they_were(name, options):
    parameters = named_parameters(torch.float32)
    optimizer = optimizer_for(parameters, name, options)
    attachment = AutoClip().attach(optimizer)
    for gradients in STEPS[:3]:
        set_gradients(parameters, gradients)
        optimizer.step()
    before = copy.deepcopy([parameter for _, parameter in parameters]), copy.deepcopy(optimizer.state_dict())
    set_gradients(parameters, STEPS[3])
    parameters[1][1].grad[0] = math.nan
    optimizer.step()
    assert not attachment.result.should_step and attachment.clipper.nonfinite_steps == 1
    assert all(torch.equal(old, new) for old, (_, new) in zip(before[0], parameters, strict=True))
    for key, old in before[1]["state"].items():
        new = optimizer.state_dict()["state"][key]
        assert all(torch.equal(torch.as_tensor(old[field]), torch.as_tensor(new[field])) for field in old)
    assert all(parameter.grad is not None for _, parameter in parameters)
    set_gradients(parameters, STEPS[4])
    optimizer.step()
    assert all(not torch.equal(old, new) for old, (_, new) in zip(before[0], parameters, strict=True))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("strategy", ["autoclip", "autoclip_on_device", "value", "spam", "spectral", "aggc"])
def test_under_grad_scaler(strategy, fused, fold):
    """As without it: the norms are the unscaled gradients', and an overflow is the scaler's business."""
    scaled, plain = named_parameters(torch.float32), named_parameters(torch.float32)
    one = torch.optim.Adam(scaled, fused=fused)
    two = torch.optim.Adam(plain, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10_000)
    attachment, reference = make(strategy).attach(one, fold=fold), make(strategy).attach(two, fold=fold)
    scaler.scale(torch.zeros(1))  # the scaler makes its tensors on first use
    for step, gradients in enumerate(STEPS):
        set_gradients(scaled, gradients, scale=scaler.get_scale())
        if step == 12:
            scaled[0][1].grad[0, 0] = math.inf
            before = copy.deepcopy(scaled)
        scaler.step(one)
        scaler.update()
        if step == 12:
            assert scaler.get_scale() == 2.0**9
            assert all(torch.equal(old, new) for (_, old), (_, new) in zip(before, scaled, strict=True))
            if strategy != "autoclip_on_device":  # which can't ask whose fault it was without waiting
                assert attachment.clipper.nonfinite_steps == 0
            continue
        set_gradients(plain, gradients)
        two.step()
        assert attachment.result.grad_norm == reference.result.grad_norm
        assert attachment.result.coefficient == pytest.approx(reference.result.coefficient, rel=1e-6)
        for (_, first), (_, second) in zip(scaled, plain, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


class Unscaling(torch.optim.Optimizer):
    """Plain gradient descent that unscales in its own step, as custom optimizers may under GradScaler."""

    _step_supports_amp_scaling = True

    def __init__(self, parameters) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        if getattr(self, "found_inf", None):
            return
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                scale = getattr(self, "grad_scale", None)
                parameter.sub_(parameter.grad if scale is None else parameter.grad / scale)


class AskingTheScaler(Unscaling):
    """The older form, which GradScaler hands itself."""

    def step(self, closure=None, grad_scaler=None) -> None:
        if grad_scaler._per_optimizer_states[id(self)]["stage"].name == "READY":
            grad_scaler.unscale_(self)
        for parameter in self.param_groups[0]["params"]:
            parameter.data.sub_(parameter.grad)


@pytest.mark.parametrize("strategy", ["fixed", "autoclip_on_device", "value", "skip_above"])
def test_an_optimizer_that_unscales_by_itself(strategy):
    weight = torch.nn.Parameter(torch.zeros(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    attachment = make(strategy).attach(Unscaling([weight]))
    scaler.scale(torch.zeros(1))
    weight.grad = torch.tensor([3.0, 4.0]) * 2.0**10
    scaler.step(attachment._optimizers[0])
    assert attachment.result.grad_norm == 5.0
    step = {"fixed": [0.6, 0.8], "value": [0.5, 0.5]}.get(strategy, [3.0, 4.0])
    torch.testing.assert_close(-weight.detach(), torch.tensor(step))
    scaler.update()
    weight.grad = torch.tensor([math.inf, 4.0])
    scaler.step(attachment._optimizers[0])
    torch.testing.assert_close(-weight.detach(), torch.tensor(step))
    if strategy != "autoclip_on_device":
        assert attachment.clipper.nonfinite_steps == 0


@pytest.mark.filterwarnings("ignore:GradScaler is going to stop passing itself")
def test_an_optimizer_that_asks_the_scaler():
    weight = torch.nn.Parameter(torch.zeros(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = AskingTheScaler([weight])
    attachment = FixedClip(1.0).attach(optimizer)
    scaler.scale(torch.zeros(1))
    weight.grad = torch.tensor([3.0, 4.0]) * 2.0**10
    with pytest.raises(ValueError, match=r"its gradients are scaled still; call scaler.unscale_\(optimizer\) for each"):
        scaler.step(optimizer)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert attachment.result.grad_norm == 5.0
    torch.testing.assert_close(-weight.detach(), torch.tensor([0.6, 0.8]))


def test_a_fused_option_that_torch_knows_nothing_of():
    class Own(torch.optim.Optimizer):
        @torch.no_grad()
        def step(self, closure=None) -> None:
            for parameter in self.param_groups[0]["params"]:
                parameter.sub_(parameter.grad)

    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = Own([weight], {"fused": True})
    FixedClip(1.0).attach(optimizer)
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    torch.testing.assert_close(-weight.detach(), torch.tensor([0.6, 0.8]))


def test_after_unscale_by_hand():
    parameters = named_parameters(torch.float32)
    for fused in (True, False):
        optimizer = torch.optim.Adam([parameter for _, parameter in parameters], fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        attachment = NoClip().attach(optimizer)
        scaler.scale(torch.zeros(1))
        set_gradients(parameters, STEPS[0], scale=2.0**10)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        set_gradients(parameters, STEPS[0])
        assert attachment.result.grad_norm == NoClip().clip_(parameters).grad_norm


def test_gradient_accumulation_is_clipped_once_per_step():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    attachment = FixedClip(1.0).attach(optimizer)
    for row in ([3.0, 0.0], [0.0, 4.0]):
        (weight * torch.tensor(row)).sum().backward()
    optimizer.step()
    assert attachment.result.grad_norm == 5.0
    torch.testing.assert_close(weight.detach(), torch.tensor([1 - 0.6, 1 - 0.8]))


def test_a_spike_is_left_out_of_the_optimizers_step():
    parameters = named_parameters(torch.float32)
    optimizer = optimizer_for(parameters, "Adam", {"fused": True})
    attachment = make("chain").attach(optimizer)
    for gradients in random_gradients(70):
        set_gradients(parameters, gradients)
        optimizer.step()
    before = copy.deepcopy(parameters)
    set_gradients(parameters, STEPS[0], scale=1e9)
    optimizer.step()
    assert not attachment.result.should_step and math.isfinite(attachment.result.grad_norm)
    assert all(torch.equal(old, new) for (_, old), (_, new) in zip(before, parameters, strict=True))


def test_closures_are_refused():
    parameters = named_parameters()
    optimizer = torch.optim.LBFGS([parameter for _, parameter in parameters])
    FixedClip().attach(optimizer)
    with pytest.raises(ValueError, match="^closure: .* call clipper.clip_"):
        optimizer.step(lambda: torch.zeros(()))
    with pytest.raises(ValueError, match="^closure: "):
        optimizer.step(closure=lambda: torch.zeros(()))


def test_names_come_from_the_optimizer_or_from_the_caller():
    parameters = named_parameters()
    set_gradients(parameters, STEPS[0])
    for optimizer, names in (
        (torch.optim.SGD(parameters, lr=0.1), None),
        (torch.optim.SGD([parameter for _, parameter in parameters], lr=0.1), parameters),
    ):
        clipper = make("adagc")
        clipper.attach(optimizer, names)
        optimizer.step()
        assert set(dict(clipper.state_dict()["gamma"])) == {name for name, _ in parameters}
    unnamed = torch.optim.SGD([parameter for _, parameter in parameters], lr=0.1)
    attachment = make("adagc").attach(unnamed)
    with pytest.raises(ValueError, match=r"AdaGC works tensor by tensor and needs names; pass model.named_parameters"):
        unnamed.step()
    attachment.remove()
    with pytest.raises(ValueError, match=r"the optimizer's parameter 1, of shape \(4,\), has no name among them"):
        AutoClip().attach(unnamed, parameters[:1])
    with pytest.raises(ValueError, match="expected .name, parameter. pairs"):
        AutoClip().attach(unnamed, [parameters[0][1]])
    with pytest.raises(TypeError, match="optimizer: expected a torch.optim.Optimizer, got Linear"):
        AutoClip().attach(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="parameters: expected .* got Linear"):
        AutoClip().attach(unnamed, torch.nn.Linear(1, 1))


def test_an_error_in_the_step_leaves_nothing_behind():
    parameters = named_parameters(torch.float32)
    optimizer = optimizer_for(parameters, "Adam", {"fused": True})
    attachment = FixedClip(1e-3).attach(optimizer)
    optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    set_gradients(parameters, STEPS[0])
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    assert hasattr(optimizer, "grad_scale")
    attachment.remove()
    assert not hasattr(optimizer, "grad_scale")


@pytest.mark.parametrize("end", [lambda attachment: None, lambda attachment: attachment.remove()])
def test_a_step_that_raised_brings_no_old_gradients_back(end):
    first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    attachment = SkipAbove(10.0).attach(optimizer)
    hook = optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    first.grad, second.grad = torch.tensor([30.0, 40.0]), torch.ones(2)
    with pytest.raises(ZeroDivisionError):  # in a step that is to be left out
        optimizer.step()
    hook.remove()
    optimizer.zero_grad()
    first.grad = torch.tensor([0.3, 0.4])
    end(attachment)
    optimizer.step()
    torch.testing.assert_close(first.detach(), torch.tensor([-0.3, -0.4]))
    assert torch.equal(second, torch.zeros(2)) and second.grad is None


def test_a_parameter_that_came_later_has_no_name():
    """Nor may it have that of one that has been freed, where it may have come to lie."""
    weight, head = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    attachment = make("adagc").attach(optimizer, [("body", weight), ("head", head)])
    place = id(head)
    del head
    assert any(id(parameter) == place for _, parameter in attachment._names.values())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    with pytest.raises(ValueError, match=r"the optimizer's parameter 1, of shape \(1,\), has no name among them"):
        optimizer.step()


class Decaying(torch.optim.SGD):
    """A subclass whose step calls its parent's, which runs the hooks again."""

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter.grad.add_(1e-3)
        return super().step(closure)


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_calls_its_parents_is_one_step(fused):
    torch.optim.SGD([torch.zeros(1)])  # from the first instance on, its class's step runs hooks
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = Decaying([weight], lr=1.0, fused=fused)
    attachment = Chain([AutoClip(p=0), SkipAbove(10.0)]).attach(optimizer)
    for gradient in ([0.3, 0.4], [3.0, 4.0]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    assert attachment.clipper.clippers["0"].history.tolist() == pytest.approx([0.5, 5.0])
    moved = torch.tensor([0.301 + 0.3, 0.401 + 0.4])
    torch.testing.assert_close(-weight.detach(), moved + (1e-4 if fused else 1e-3))
    before, weight.grad = weight.detach().clone(), torch.full((2,), math.nan)
    optimizer.step()
    assert torch.equal(weight, before) and attachment.clipper.nonfinite_steps == 1


def test_one_clipper_for_one_optimizer():
    parameters = named_parameters()
    optimizer = optimizer_for(parameters, "SGD", {"lr": 0.1})
    attachment = FixedClip().attach(optimizer)
    with pytest.raises(ValueError, match="optimizer: it has a clipper already; .* attach a Chain of both"):
        FixedClip().attach(optimizer)
    attachment.remove()
    FixedClip().attach(optimizer)


def test_a_step_without_gradients_is_none():
    parameters = named_parameters()
    optimizer = optimizer_for(parameters, "SGD", {"lr": 0.1})
    attachment = AutoClip().attach(optimizer)
    optimizer.step()
    assert attachment.result.grad_norm == 0 and len(attachment.clipper.history) == 0


def test_a_skipped_first_step_under_fused_momentum():
    """torch would leave the momentum uninitialised if it were told to skip by itself."""
    for seed in range(5):
        torch.full((1000,), 1e30 + seed)  # leaves rubbish where the momentum may come to lie
        weight = torch.nn.Parameter(torch.ones(1000))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
        FixedClip(1e9).attach(optimizer)
        for value in (math.nan, 1.0):
            weight.grad = torch.full((1000,), value)
            optimizer.step()
        torch.testing.assert_close(weight.detach(), torch.full((1000,), 0.9))


def test_spam_needs_an_optimizer_with_a_second_moment():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([("w", weight)], lr=0.1)
    make("spam", second_moment="optimizer").attach(optimizer)
    weight.grad = torch.ones(2)
    optimizer.step()
    with pytest.raises(ValueError, match="second_moment: SGD keeps no exp_avg_sq; use 'own'"):
        optimizer.step()


def test_spam_in_an_optimizer_whose_second_moment_is_yet_to_come():
    """Another optimizer, a first step that was left out, and a state that was cleared."""
    weight = torch.nn.Parameter(torch.zeros(2))
    spam = make("spam", second_moment="optimizer", theta=4.0)
    clipper = Chain([spam, SkipAbove(10.0)])
    for _ in range(2):
        optimizer = torch.optim.Adam([("w", weight)])
        attachment = clipper.attach(optimizer)
        for length in (20.0, 1.0):
            weight.grad = torch.tensor([length, 0.0])
            optimizer.step()
        assert attachment.result.should_step
        weight.grad = torch.tensor([2.0, 0.0])
        optimizer.step()
        assert weight.grad[0].item() == pytest.approx(math.sqrt(4.0 * 0.001))
        optimizer.state.clear()
        optimizer.step()
        attachment.remove()


def test_removed_it_no_longer_clips():
    parameters = named_parameters()
    optimizer = optimizer_for(parameters, "SGD", {"lr": 0.1})
    attachment = FixedClip(1e-3).attach(optimizer)
    attachment.remove()
    set_gradients(parameters, STEPS[0])
    optimizer.step()
    assert attachment.result is None
