"""Which optimizers a clipper can be attached to, and whether a loss is being scaled."""

import sys
from collections.abc import Iterable

import torch
from torch.amp.grad_scaler import GradScaler, OptState


def attachable(optimizers: object) -> list[torch.optim.Optimizer]:
    """One optimizer or several as a list, out of Accelerate's wrapper.

    Raises:
        TypeError: one isn't an optimizer.
        ValueError: there are none, one stands there twice, or one takes steps that run no hooks.
    """
    several = list(optimizers) if isinstance(optimizers, Iterable) else [optimizers]
    found = [_checked(getattr(each, "optimizer", each)) for each in several]
    if not found:
        raise ValueError("optimizer: expected at least one, got none")
    if len({id(each) for each in found}) < len(found):
        raise ValueError("optimizer: one of them stands there twice")
    return found


def _checked(optimizer: object) -> torch.optim.Optimizer:
    kind = type(optimizer).__name__
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {kind}")
    if hasattr(optimizer, "first_step"):  # SAM's kind
        base = getattr(optimizer, "base_optimizer", None)
        remedy = (
            "attach the clipper to its base_optimizer, which takes the step"
            if isinstance(base, torch.optim.Optimizer)
            else "call clipper.clip_(model.parameters()) before the step that changes the weights"
        )
        raise ValueError(f"optimizer: {kind} is stepped by first_step and second_step, which run no hooks; {remedy}")
    if not getattr(type(optimizer).step, "hooked", False) or not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise ValueError(
            f"optimizer: {kind}.step runs no hooks, since {kind} doesn't call torch.optim.Optimizer.__init__; call"
            " clipper.clip_(model.parameters()) before optimizer.step()"
        )
    return optimizer


def takes_scale(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step divides by `grad_scale` and skips by `found_inf`, which `torch.amp.GradScaler` then sets."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all its steps are torch's fused ones, which read each of the two by itself."""
    return takes_scale(optimizer) and all(group.get("fused") for group in optimizer.param_groups)


def is_nested(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a hook is called by a step within this optimizer's own step, as by `super().step()` of a subclass."""
    wrapper, depth, frame = type(optimizer).step.__code__, 0, sys._getframe(1)
    while frame is not None:
        depth += frame.f_code is wrapper and frame.f_locals.get("self") is optimizer
        frame = frame.f_back  # type: ignore[assignment]
    return depth > 1


def running_scaler() -> GradScaler | None:
    """The `torch.amp.GradScaler` inside of whose `step` this is called."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is GradScaler.step.__code__:
            scaler = frame.f_locals["self"]
            return scaler if scaler.is_enabled() else None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def has_unscaled(scaler: GradScaler, optimizer: torch.optim.Optimizer) -> bool:
    """Whether `scaler.unscale_(optimizer)` has run in this step."""
    return scaler._per_optimizer_states[id(optimizer)]["stage"] is not OptState.READY
