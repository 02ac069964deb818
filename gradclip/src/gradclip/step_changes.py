"""What an attached clipper changes for the length of one optimizer step, and puts back after it."""

import torch
from torch import Tensor

MISSING = object()
"""Stands for an attribute that the optimizer didn't have."""


class StepChanges:
    """The changes to one optimizer and its parameters' gradients."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._previous: dict[str, object] = {}  # the optimizer's attributes before this step
        self._dropped: list[tuple[Tensor, Tensor]] = []  # gradients that a skipped step doesn't see

    def set_attribute(self, name: str, value: Tensor) -> None:
        """Sets what a fused optimizer reads in its step: `grad_scale`, `found_inf`."""
        self._previous.setdefault(name, getattr(self._optimizer, name, MISSING))
        setattr(self._optimizer, name, value)

    def drop_gradients(self) -> None:
        """The optimizer finds no gradients, so it leaves its state and the parameters as they are."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._dropped.append((parameter, parameter.grad))
                    parameter.grad = None

    def undo(self) -> None:
        """Gives the optimizer its attributes and the parameters their gradients back: they would stay for good.

        The gradients of a step that raised are given back unless there are new ones.
        """
        for name, value in self._previous.items():
            if value is MISSING:
                delattr(self._optimizer, name)
            else:
                setattr(self._optimizer, name, value)
        if all(parameter.grad is None for parameter, _ in self._dropped):
            for parameter, grad in self._dropped:
                parameter.grad = grad
        self._previous, self._dropped = {}, []
