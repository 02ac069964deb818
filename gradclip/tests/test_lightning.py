"""Lightning with several optimizers, manual optimization, mixed precision, and checkpoints without a clipper."""

import importlib
import math

import pytest
import torch

from gradclip import AutoClip, FixedClip, NonFiniteGradientError

pytestmark = pytest.mark.slow
STEPS = 6


@pytest.fixture(scope="module")
def few():
    """`lightning_modules`, imported late: Lightning takes some seconds."""
    pytest.importorskip("lightning")
    return importlib.import_module("lightning_modules")


@pytest.mark.parametrize("keys", [("generator", "discriminator"), (0, 1)])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_manual_optimization_of_two_networks(few, keys, precision):
    generator, discriminator = keys
    clippers = {discriminator: FixedClip(0.01), generator: AutoClip(p=0)}  # in another order than the optimizers
    trainer = few.fit(module := few.Networks(), clippers, precision=precision)
    assert list(clippers[generator].history) == pytest.approx(module.norms["generator"])
    smallest = [min(module.norms["generator"][: step + 1]) for step in range(STEPS)]
    assert module.updates["generator"] == pytest.approx(smallest, rel=1e-4)
    assert min(module.norms["discriminator"]) > 0.01
    assert module.updates["discriminator"] == pytest.approx([0.01] * STEPS, rel=1e-3)
    metrics = trainer.callback_metrics
    assert metrics[f"train/{generator}/grad_norm"] == pytest.approx(module.norms["generator"][-1])
    assert metrics[f"train/{generator}/clip_threshold"] == pytest.approx(smallest[-1])
    assert metrics[f"train/{discriminator}/clip_threshold"] == pytest.approx(0.01)
    coefficient = 0.01 / module.norms["discriminator"][-1]
    assert metrics[f"train/{discriminator}/clip_coefficient"] == pytest.approx(coefficient)
    assert metrics[f"train/{discriminator}/clipped_fraction"] == 1


def test_an_optimizer_without_a_clipper_is_left_alone(few):
    few.fit(module := few.Networks(), {"discriminator": FixedClip(0.01)})
    assert module.updates["generator"] == pytest.approx(module.norms["generator"], rel=1e-4)
    assert module.updates["discriminator"] == pytest.approx([0.01] * STEPS, rel=1e-3)


def test_the_norm_is_of_what_the_optimizer_steps(few):
    """Not of other gradients in the module, which nobody sets to zero."""
    few.fit(module := few.Automatic(), clipper := AutoClip(p=50))
    assert module.other.weight.grad is not None
    norms = [parameter.grad.norm().item() for parameter in module.trained.parameters()]
    assert list(clipper.history)[-1] == pytest.approx(math.hypot(*norms))


def test_a_batch_without_a_loss_is_no_step(few):
    few.fit(few.Automatic(left_out=2), clipper := AutoClip())
    assert len(clipper.history) == clipper.finite_steps == STEPS - 1


def test_fabric_needs_no_adapter(few, tmp_path):
    fabric = importlib.import_module("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    model = torch.nn.Linear(3, 1)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    attachment = (clipper := AutoClip(p=0)).attach(optimizer, model.named_parameters())
    for scale in (1, 3, 2):
        optimizer.zero_grad()
        fabric.backward(scale * model(torch.ones(1, 3)).sum())
        optimizer.step()
        assert attachment.result.grad_norm == pytest.approx(2 * scale) and attachment.result.threshold == pytest.approx(
            2
        )
    fabric.save(tmp_path / "state", {"clipper": clipper})
    fabric.load(tmp_path / "state", {"clipper": (restored := AutoClip(p=0))})
    assert restored.history == clipper.history


def test_state_of_several_clippers(few, tmp_path):
    path = tmp_path / "two.ckpt"
    clippers = {"generator": AutoClip(), "discriminator": AutoClip()}
    few.fit(few.Networks(), clippers).save_checkpoint(path)
    resumed = {"discriminator": AutoClip(), "generator": AutoClip()}
    few.fit(few.Networks(), resumed, ckpt_path=path, max_epochs=2)
    for name, clipper in clippers.items():
        assert (
            list(resumed[name].history)[:STEPS] == list(clipper.history)
            and len(list(resumed[name].history)) == 2 * STEPS
        )
    message = r"clipper: the state has \['discriminator', 'generator'\], this callback \['generator'\]"
    with pytest.raises(ValueError, match=message):
        few.fit(few.Networks(), {"generator": AutoClip()}, ckpt_path=path, max_epochs=2)


def test_a_checkpoint_without_a_clippers_state_says_so(few, tmp_path):
    few.fit(few.Automatic(), None).save_checkpoint(path := tmp_path / "without.ckpt")
    with pytest.raises(ValueError, match="checkpoint: the training resumes, but its clipper's state isn't there"):
        few.fit(few.Automatic(), AutoClip(), ckpt_path=path, max_epochs=2)
    few.fit(few.Automatic(), clipper := AutoClip(), missing_ok=True, ckpt_path=path, max_epochs=2)
    assert len(list(clipper.history)) == STEPS


def test_steps_in_which_the_scaler_finds_infinity(few):
    """They are neither recorded nor counted, even where a gradient that isn't finite has to raise."""
    clipper = AutoClip(on_nonfinite="raise")
    few.fit(few.Automatic(), clipper, **few.mixed_precision(2.0**18))
    assert clipper.nonfinite_steps == 0 and 0 < len(list(clipper.history)) < STEPS
    with pytest.raises(NonFiniteGradientError):
        few.fit(few.Automatic(math.nan), AutoClip(on_nonfinite="raise"))


REFUSALS = [
    (AutoClip(), "clipper: one clipper has one memory, but configure_optimizers returned 2 optimizers"),
    ({"decoder": AutoClip()}, "clipper: 'decoder' stands for 0 of the 2 optimizers; name a submodule"),
    ({2: AutoClip()}, "clipper: 2 stands for 0 of the 2 optimizers; .* or give its index, 0 to 1"),
    ({"": AutoClip()}, "clipper: '' stands for 2 of the 2 optimizers"),
    (dict.fromkeys(["generator", "discriminator"], AutoClip()), "parameters: the clipper has met only others"),
    ({"generator": AutoClip(), 0: AutoClip()}, "clipper: 0 names an optimizer that has a clipper already"),
]


@pytest.mark.parametrize(("clippers", "message"), REFUSALS)
def test_refuses_clippers_whose_optimizer_it_cannot_tell(few, clippers, message):
    with pytest.raises(ValueError, match=message):
        few.fit(few.Networks(), clippers)


def test_refuses_deepspeed(few, monkeypatch):
    """It leaves the parameters without gradients, so nothing would be clipped."""
    strategies = importlib.import_module("lightning.pytorch.strategies")
    monkeypatch.setattr("gradclip.adapters.lightning.DeepSpeedStrategy", strategies.SingleDeviceStrategy)
    with pytest.raises(ValueError, match="strategy: DeepSpeed keeps the gradients to itself"):
        few.fit(few.Automatic(), AutoClip())
