"""One clipper over several optimizers, over a part of the parameters, and in optimizers of unusual kinds."""

import copy
import math

import pytest
import torch
from torch import Tensor

from gradclip import AutoClip, FixedClip, NoClip
from strategies import make, named_parameters, random_gradients, set_gradients

STEPS = random_gradients(20)


def two_optimizers(parameters: list[tuple[str, Tensor]], **settings: object) -> list[torch.optim.Optimizer]:
    matrices = [pair for pair in parameters if pair[1].ndim == 2]
    vectors = [pair for pair in parameters if pair[1].ndim < 2]
    return [torch.optim.SGD(matrices, lr=0.1, momentum=0.9), torch.optim.AdamW(vectors, **settings)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("fused", [True, False])
def test_one_norm_over_two_optimizers_clipped_once_a_turn(order, fused):
    attached, by_hand = named_parameters(), named_parameters()
    ones, twos = two_optimizers(attached, fused=fused), two_optimizers(by_hand, fused=fused)
    attachment, clipper, clipped = AutoClip(p=25).attach(ones), AutoClip(p=25), 0
    for gradients in STEPS:
        set_gradients(attached, gradients)
        set_gradients(by_hand, gradients)
        result = clipper.clip_(two for optimizer in twos for two in optimizer.param_groups[0]["params"])
        for index in order:
            ones[index].step()
            twos[index].step()
            assert attachment.result == result
        clipped += result.clipped
    assert clipped > 5 and attachment.clipper.finite_steps == len(STEPS)
    assert all(torch.equal(one, two) for (_, one), (_, two) in zip(attached, by_hand, strict=True))


def test_muon_and_adamw():
    parameters = named_parameters(torch.float32)
    optimizers = [
        torch.optim.Muon([pair for pair in parameters if pair[1].ndim == 2], lr=0.02),
        torch.optim.AdamW([pair for pair in parameters if pair[1].ndim < 2]),
    ]
    both = FixedClip(1.0).attach(optimizers)
    set_gradients(parameters, STEPS[0])
    for optimizer in optimizers:
        optimizer.step()
    norm = math.sqrt(sum((gradient**2).sum() for gradient in STEPS[0]))
    assert both.result.grad_norm == pytest.approx(norm, rel=1e-6)
    both.remove()
    one = FixedClip(1.0).attach(optimizers, exclude=optimizers[0])
    set_gradients(parameters, STEPS[0])
    for optimizer in optimizers:
        optimizer.step()
    norm = math.sqrt(sum((gradient**2).sum() for gradient in STEPS[0] if gradient.ndim < 2))
    assert one.result.grad_norm == pytest.approx(norm, rel=1e-6)
    assert torch.equal(parameters[0][1].grad, torch.tensor(STEPS[0][0], dtype=torch.float32))


@pytest.mark.parametrize("excluded", [(), (0,)])
def test_a_step_that_is_left_out_is_left_out_by_all(excluded):
    parameters = named_parameters()
    optimizers = two_optimizers(parameters)
    FixedClip().attach(optimizers, exclude=[optimizers[index] for index in excluded])
    set_gradients(parameters, STEPS[0])
    parameters[1][1].grad[0] = math.nan  # a vector's
    before = copy.deepcopy(parameters)
    for optimizer in optimizers:
        optimizer.step()
    assert all(torch.equal(old, new) for (_, old), (_, new) in zip(before, parameters, strict=True))
    assert all(parameter.grad is not None for _, parameter in parameters)
    set_gradients(parameters, STEPS[1])
    for optimizer in optimizers:
        optimizer.step()
    assert not any(torch.equal(old, new) for (_, old), (_, new) in zip(before, parameters, strict=True))


def test_optimizers_that_do_not_step_in_turn_are_told():
    """A GAN's two, or optimizers that step inside of the backward pass: one of them would step unclipped."""
    parameters = named_parameters()
    first, second = two_optimizers(parameters)
    AutoClip().attach([first, second])
    set_gradients(parameters, STEPS[0])
    first.step()
    set_gradients(parameters, STEPS[1])
    with pytest.raises(ValueError, match=r"step of AdamW \(number 1\) got other gradients since .* a clipper each"):
        second.step()
    set_gradients(parameters, STEPS[2])
    first.step()
    with pytest.raises(ValueError, match=r"step of AdamW \(number 1\) was left out since"):
        first.step()
    first.step()  # an error leaves nothing behind
    parameters[1][1].grad.mul_(2)
    with pytest.raises(ValueError, match=r"number 1\) got other gradients"):
        second.step()


def test_a_gan_with_two_clippers():
    torch.manual_seed(0)
    generator, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (generator, critic)]
    clippers = [AutoClip(p=0), AutoClip(p=0)]
    attachments = [clipper.attach(optimizer) for clipper, optimizer in zip(clippers, optimizers, strict=True)]
    for step in range(1, 6):
        noise = torch.randn(4, 2) * step
        critic(generator(noise).detach()).mean().backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-critic(generator(noise)).mean()).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
    assert [len(clipper.history) for clipper in clippers] == [5, 5]
    assert attachments[0].result.grad_norm != attachments[1].result.grad_norm


@pytest.mark.parametrize("fused", [True, False])
def test_under_a_grad_scaler_all_have_to_be_unscaled(fused):
    parameters, plain = named_parameters(torch.float32), named_parameters(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.zeros(1))
    set_gradients(parameters, STEPS[0], scale=2.0**10)
    for first in (0, 1):
        optimizers = two_optimizers(parameters, fused=fused)
        attachment = AutoClip(p=0).attach(optimizers)
        with pytest.raises(ValueError, match=r"call scaler.unscale_\(optimizer\) for each optimizer before"):
            scaler.step(optimizers[first])
        scaler.update()
    optimizers, reference = two_optimizers(parameters, fused=fused), two_optimizers(plain, fused=fused)
    attachment, other = AutoClip(p=0).attach(optimizers), AutoClip(p=0).attach(reference)
    for gradients in STEPS[:3]:
        set_gradients(parameters, gradients, scale=scaler.get_scale())
        set_gradients(plain, gradients)
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        for optimizer, without in zip(optimizers, reference, strict=True):
            scaler.step(optimizer)
            without.step()
        scaler.update()
        assert attachment.result == other.result
    assert all(torch.equal(one, two) for (_, one), (_, two) in zip(parameters, plain, strict=True))
    set_gradients(parameters, STEPS[3], scale=scaler.get_scale())
    parameters[1][1].grad[0] = math.inf
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**9 and attachment.clipper.nonfinite_steps == 0
    assert all(torch.equal(one, two) for (_, one), (_, two) in zip(parameters, plain, strict=True))


def test_excluded_names_are_neither_measured_nor_clipped():
    parameters = named_parameters()
    optimizer = torch.optim.AdamW(parameters, fused=True)
    attachment = FixedClip(1e-3).attach(optimizer, exclude=["*.bias"])
    set_gradients(parameters, STEPS[0])
    optimizer.step()
    kept = [gradient for gradient in STEPS[0] if gradient.ndim == 2]
    assert attachment.result.grad_norm == pytest.approx(math.sqrt(sum((gradient**2).sum() for gradient in kept)))
    for (name, parameter), gradient in zip(parameters, STEPS[0], strict=True):
        factor = 1.0 if name.endswith("bias") else attachment.result.coefficient
        torch.testing.assert_close(parameter.grad, torch.tensor(gradient * factor), rtol=1e-12, atol=0)
    attachment.remove()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.zeros(1))
    attachment = FixedClip(1e-3).attach(optimizer, exclude=["*.bias"])
    with pytest.raises(ValueError, match="its gradients are scaled still"):
        scaler.step(optimizer)


def test_wrong_exclusions_are_named():
    parameters = named_parameters()
    optimizers = two_optimizers(parameters)
    outsider = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for exclude, error, message in (
        (["decoder.*"], ValueError, r"exclude: no parameter is called 'decoder.\*'; there are encoder.weight"),
        ("encoder.*", TypeError, r"exclude: expected a list of names or patterns such as 'encoder.\*'"),
        ([3], TypeError, "exclude: expected a list of names or patterns"),
        (["encoder.*", "mask.*"], ValueError, r"exclude: \['encoder.\*', 'mask.\*'\] leave nothing to clip"),
        ([optimizers[0], "*.bias"], ValueError, r"exclude: \['\*.bias'\] leave nothing to clip"),
        ([outsider], ValueError, "exclude: expected some of the optimizers that the clipper is attached to"),
        (optimizers, ValueError, "exclude: expected some of the optimizers that the clipper is attached to, not all"),
    ):
        with pytest.raises(error, match=message):
            AutoClip().attach(optimizers, exclude=exclude)
    unnamed = torch.optim.SGD([parameter for _, parameter in parameters], lr=0.1)
    with pytest.raises(ValueError, match="exclude: patterns need names; pass parameters=model.named_parameters"):
        AutoClip().attach(unnamed, exclude=["*.bias"])
    for optimizers_given, message in (([], "expected at least one, got none"), ([unnamed] * 2, "stands there twice")):
        with pytest.raises(ValueError, match=message):
            AutoClip().attach(optimizers_given)


def test_one_attachment_at_a_time():
    parameters, clipper = named_parameters(), AutoClip()
    first, second = two_optimizers(parameters)
    attachment = clipper.attach(first)
    with pytest.raises(ValueError, match=r"attach: the clipper is attached already; .* attach\(\[first, second\]\)"):
        clipper.attach(second)
    set_gradients(parameters, STEPS[0])
    with pytest.raises(ValueError, match="clip_: the clipper is attached to an optimizer, whose step clips"):
        clipper.clip_(parameters)
    attachment.remove()
    clipper.clip_(parameters)
    clipper.attach(second)


class SharpnessAware(torch.optim.Optimizer):
    """The usual form of SAM: two steps, the second one by a base optimizer."""

    def __init__(self, parameters, rho: float = 0.05, **settings) -> None:
        super().__init__(parameters, {"rho": rho, **settings})
        self.base_optimizer = torch.optim.SGD(self.param_groups, **settings)

    @torch.no_grad()
    def first_step(self) -> None:
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in self.param_groups[0]["params"]))
        for p in self.param_groups[0]["params"]:
            self.state[p]["offset"] = p.grad * (self.param_groups[0]["rho"] / norm)
            p.add_(self.state[p]["offset"])

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self.param_groups[0]["params"]:
            p.sub_(self.state[p]["offset"])
        self.base_optimizer.step()

    def step(self, closure=None) -> None:
        raise NotImplementedError


def test_sam_is_clipped_in_its_base_optimizers_step():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = SharpnessAware([weight], rho=0.5, lr=1.0)
    with pytest.raises(ValueError, match="SharpnessAware is stepped by first_step .* attach .* to its base_optimizer"):
        FixedClip(1.0).attach(optimizer)
    attachment = FixedClip(1.0).attach(optimizer.base_optimizer)
    weight.square().sum().backward()
    optimizer.first_step()
    weight.grad = None
    weight.square().sum().backward()  # at (3.3, 4.4): the gradient's norm is 11
    optimizer.second_step()
    assert attachment.result.grad_norm == pytest.approx(11.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([3 - 0.6, 4 - 0.8]))


def test_an_optimizer_without_hooks_is_refused():
    class Bare(torch.optim.Optimizer):
        def __init__(self, optimizer) -> None:
            self.inner, self.param_groups = optimizer, optimizer.param_groups

        def step(self) -> None:
            self.inner.step()

    inner = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=r"Bare.step runs no hooks, .* call clipper.clip_\(model.parameters\(\)\)"):
        FixedClip().attach(Bare(inner))


def test_param_groups_have_a_history_each():
    parameters = named_parameters()
    first, second = two_optimizers(parameters)
    first.param_groups[0]["name"] = "matrices"
    clipper = AutoClip(p=0, groups="param_group")
    set_gradients(parameters, STEPS[0])
    with pytest.raises(ValueError, match=r"groups: 'param_group' needs an optimizer; call clipper.attach\(optimizer\)"):
        clipper.clip_(parameters)
    clipper.attach([first, second])
    for gradients in STEPS[:4]:
        set_gradients(parameters, gradients)
        first.step()
        second.step()
    for name, ndim in {"matrices": 2, "1.0": 1}.items():
        norms = [math.sqrt(sum((g**2).sum() for g in gradients if g.ndim == ndim)) for gradients in STEPS[:4]]
        assert clipper.histories[name].tolist() == pytest.approx(norms, rel=1e-12)


def test_a_group_that_is_added_to_the_first_optimizer_has_a_history_of_its_own():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    first, second = (torch.optim.SGD([weight], lr=0.1) for weight in weights[:2])
    clipper = AutoClip(p=100, groups="param_group")
    clipper.attach([first, second])
    for weight, norm in zip(weights, (1.0, 10.0, 100.0), strict=True):
        weight.grad = torch.full((1,), norm)
    for _ in range(2):
        first.step()
        second.step()
        if len(first.param_groups) == 1:
            first.add_param_group({"params": weights[2]})
    histories = {name: list(norms) for name, norms in clipper.histories.items()}
    assert histories == {"0.0": [1.0, 1.0], "1.0": [10.0, 10.0], "0.1": [100.0]}


@pytest.mark.parametrize("name", ["autoclip", "fixed", "zclip"])
def test_a_compiled_step_clips_as_a_plain_one(name):
    attached, plain = named_parameters(torch.float32), named_parameters(torch.float32)
    one, two = torch.optim.Adam(attached), torch.optim.Adam(plain)
    attachment, reference = make(name).attach(one), make(name).attach(two)
    step = torch.compile(one.step, backend="eager")
    for gradients in STEPS[:5]:
        set_gradients(attached, gradients)
        set_gradients(plain, gradients)
        step()
        two.step()
        assert attachment.result == reference.result
    for (_, first), (_, second) in zip(attached, plain, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_a_clip_inside_of_a_compiled_step():
    weight = torch.nn.Parameter(torch.ones(2))
    clipper = NoClip()

    @torch.compile(backend="eager")
    def step() -> None:
        weight.square().sum().backward()
        clipper.clip_(weight)

    for count in range(1, 4):
        step()
        assert clipper.finite_steps == count


def test_lbfgs_clips_at_the_end_of_its_closure():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer, clipper = torch.optim.LBFGS([weight], lr=1.0, max_iter=1), FixedClip(1.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum() / 2
        loss.backward()
        clipper.clip_(weight)
        return loss

    optimizer.step(closure)
    # LBFGS makes its first step at most as long as 1 over the gradient's sum of magnitudes, .6 + .8.
    torch.testing.assert_close(weight.detach(), torch.tensor([3 - 0.6 / 1.4, 4 - 0.8 / 1.4]))
    assert clipper.finite_steps == 1
