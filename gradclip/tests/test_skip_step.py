"""SkipStep against OLMo's rule, and how a loss reaches a clipper."""

import copy
import math

import numpy as np
import pytest
import torch

from gradclip import Chain, Clipper, ClipResult, FixedClip, NoClip, SkipSpikes, SkipStep
from strategies import make, named_parameters, random_gradients, set_gradients
from test_rivals import norm_of


def within_olmos_limits(losses: list[float], norms: list[float], window: int, k: float) -> bool:
    """Whether OLMo takes the last of these steps."""
    if len(losses) < window // 2:
        return True
    return all(
        values[-1] - np.mean(values[-window - 1 : -1]) <= k * np.std(values[-window - 1 : -1], ddof=1)
        for values in (losses, norms)
    )


@pytest.mark.parametrize(("window", "k"), [(128, 6.0), (6, 1.5), (41, 3.0)])
def test_equals_olmos_rule(window, k):
    clipper, parameters, random = SkipStep(k=k, window=window), named_parameters(), np.random.default_rng(1)
    losses, norms, skipped = [], [], {"loss": 0, "norm": 0}
    for gradients in random_gradients(500, seed=5):
        scale = 1e3 if random.random() < 0.01 else 1.0
        losses.append(float(random.normal(-12, 1) + (50 if random.random() < 0.01 else 0)))
        norms.append(norm_of(*gradients) * scale)
        set_gradients(parameters, gradients, scale)
        before = copy.deepcopy([parameter.grad for _, parameter in parameters])
        clipper.observe_loss(torch.tensor(losses[-1], dtype=torch.float64))
        result = clipper.clip_(parameters)
        expected = within_olmos_limits(losses, norms, window, k)
        assert (result.should_step, result.coefficient) == (expected, 1.0)
        assert all(torch.equal(grad, p.grad) for grad, (_, p) in zip(before, parameters, strict=True))
        skipped["norm" if norms[-1] > result.threshold else "loss"] += not expected
    assert min(skipped.values()) >= 2
    assert clipper.history["loss"] == losses[-window:]
    assert clipper.history["norm"] == pytest.approx(norms[-window:], rel=1e-12)


PARAMETER = torch.nn.Parameter(torch.zeros(2))


def step_of(clipper: Clipper, loss: object = None, grad: float = 1.0) -> ClipResult:
    PARAMETER.grad = torch.full((2,), grad)
    if loss is not None:
        clipper.observe_loss(loss)
    return clipper.clip_([PARAMETER])


@pytest.mark.parametrize(("window", "first"), [(6, 3), (21, 10), (128, 64)])
def test_no_step_before_the_first_decision_is_left_out(window, first):
    for spike in (first - 1, first):
        clipper = SkipStep(window=window)
        outcomes = [step_of(clipper, 1000.0 if step == spike else 0.0).should_step for step in range(1, first + 1)]
        assert all(outcomes) == (spike < first)


def test_a_zero_gradient_passes_whatever_its_loss():
    clipper = SkipStep(window=20)
    for step in range(30):
        step_of(clipper, step % 2)
    before = clipper.history
    assert step_of(clipper, 1000.0, grad=0.0).should_step and clipper.history == before
    assert not step_of(clipper, 1000.0).should_step


def test_a_loss_counts_for_one_step():
    for clipper in (SkipStep(), Chain([SkipStep(), FixedClip(1.0)])):
        step_of(clipper, 1.0)
        with pytest.raises(
            ValueError, match=r"loss: SkipStep decides by it too; call clipper.observe_loss\(loss\) bef"
        ):
            step_of(clipper)
    chain = Chain([NoClip(), SkipStep()])
    assert not step_of(chain, 1.0, grad=math.nan).should_step  # and the member sees nothing of it
    with pytest.raises(ValueError, match="loss: SkipStep decides by it too"):
        step_of(chain)
    assert step_of(SkipSpikes(), 1.0).should_step  # which doesn't need it


def test_a_loss_is_one_number_and_stays_as_it_is():
    clipper = SkipStep()
    for wrong, message in ((torch.ones(2), r"shape \(2,\)"), (torch.tensor(1j), "complex64"), (torch.ones(0), "shape")):
        with pytest.raises(ValueError, match=f"loss: expected one real number, got .*{message}"):
            clipper.observe_loss(wrong)
    for wrong in ("1.0", None, True, [1.0]):
        with pytest.raises(TypeError, match="loss: expected a number or a tensor, got"):
            clipper.observe_loss(wrong)
    losses = [torch.ones(1, 1, requires_grad=True), np.float32(3.0), 2, torch.tensor(2.5, dtype=torch.bfloat16)]
    for loss in losses:
        step_of(clipper, loss)
    assert clipper.history["loss"] == [1.0, 3.0, 2.0, 2.5] and losses[0].item() == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_the_memory_as_it_was(bad):
    clipper = SkipStep()
    for loss in range(30):
        step_of(clipper, float(loss % 3))
    before = clipper.history
    result = step_of(clipper, bad)
    assert not result.should_step and math.isnan(result.threshold) and result.grad_norm == pytest.approx(2**0.5)
    assert clipper.history == before and clipper.nonfinite_steps == 1
    assert step_of(clipper, 1.0).should_step
    member = SkipStep()
    assert not step_of(Chain([member]), bad).should_step and member.history["loss"] == []


@pytest.mark.parametrize("fused", [True, False])
def test_an_attached_one_leaves_a_skipped_step_without_a_trace(fused):
    parameters = named_parameters(torch.float32)
    optimizer = torch.optim.Adam([parameter for _, parameter in parameters], fused=fused)
    clipper = SkipStep(window=20)
    attachment = clipper.attach(optimizer)
    outcomes = []
    for step, gradients in enumerate(random_gradients(40)):
        before = copy.deepcopy([[parameter for _, parameter in parameters], optimizer.state_dict()["state"]])
        set_gradients(parameters, [array / norm_of(*gradients) for array in gradients])
        clipper.observe_loss(100.0 if step == 30 else step % 3)
        optimizer.step()
        outcomes.append(attachment.result.should_step)
        now = [[parameter for _, parameter in parameters], optimizer.state_dict()["state"]]
        assert (str(before) == str(now)) == (step == 30)
    assert outcomes == [step != 30 for step in range(40)]


def test_under_grad_scaler_an_overflow_is_not_recorded():
    for fused in (True, False):
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam([parameter], fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        scaler.scale(torch.zeros(1))
        clipper = SkipStep()
        clipper.attach(optimizer)
        for step in range(5):
            parameter.grad = torch.full((3,), math.inf if step == 2 else scaler.get_scale())
            clipper.observe_loss(float(step))
            scaler.step(optimizer)
            scaler.update()
        assert clipper.history["loss"] == [0.0, 1.0, 3.0, 4.0]
        assert clipper.history["norm"] == pytest.approx([3**0.5] * 4, rel=1e-6)


@pytest.mark.parametrize("on_nonfinite", ["skip", "zero"])
def test_nothing_is_read_on_the_host(on_nonfinite):
    """On the meta device tensors have no values, and reading one raises."""
    clipper, parameter = SkipStep(on_nonfinite=on_nonfinite), torch.nn.Parameter(torch.ones(3, device="meta"))
    for _ in range(3):
        parameter.grad = torch.ones(3, device="meta")
        clipper.observe_loss(torch.ones((), device="meta"))
        assert all(value.is_meta for value in clipper.clip_([parameter]).raw)


def test_on_nonfinite_raise_would_wait():
    with pytest.raises(ValueError, match="on_nonfinite: expected one of skip, zero, got 'raise'"):
        SkipStep(on_nonfinite="raise")
    with pytest.raises(ValueError, match="window: expected a whole number >= 6, got 5"):
        SkipStep(window=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": (1.0, 2.0)}, "losses: expected as many as norms and at most 128, got 2 and 1"),
        ({"losses": (math.nan,)}, "losses: expected a finite number, got nan"),
        ({"losses": ("x",)}, "losses: expected a finite number, got 'x'"),
        ({"norms": (-1.0,)}, "norms: expected a finite number >= 0, got -1.0"),
        ({"losses": (1.0,) * 129, "norms": (1.0,) * 129}, "losses: expected as many as norms and at most 128, got 129"),
    ],
)
def test_damaged_states_are_refused(changes, message):
    clipper = SkipStep()
    step_of(clipper, -1.0)
    state = clipper.state_dict()
    with pytest.raises(ValueError, match=message):
        clipper.load_state_dict({**state, **changes})
    assert clipper.history["loss"] == [-1.0]


def test_in_a_chain_it_sees_what_the_members_before_it_left():
    chain = Chain({"clip": FixedClip(1.0), "skip": SkipStep(window=20)})
    for step in range(30):
        assert step_of(chain, float(step % 2), grad=100.0 if step == 25 else 1.0).should_step
    assert chain.clippers["skip"].history["norm"] == pytest.approx([1.0] * 20)
    result = step_of(chain, 50.0)
    assert not result.should_step and result.coefficient == pytest.approx(2**-0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_the_gpu():
    parameter = torch.nn.Parameter(torch.ones(3, device="cuda"))
    optimizer, clipper = torch.optim.Adam([parameter], fused=True), make("skip_step")
    clipper.attach(optimizer)
    for step in range(4):
        parameter.grad = torch.ones(3, device="cuda")
        clipper.observe_loss(parameter.sum())
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
