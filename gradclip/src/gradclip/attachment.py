"""A clipper inside an optimizer's step."""

import math
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

import torch
from torch import Tensor

from gradclip.gradients import Gradients, Parameters, as_list
from gradclip.result import ClipResult

MISSING = object()
"""Stands for an attribute that the optimizer didn't have."""


class Strategy(Protocol):
    """What an attachment needs of a clipper; see `Clipper`."""

    needs_max: bool
    per_tensor: bool
    on_device: bool

    def apply(self, grads: Gradients) -> ClipResult: ...
    def attached_to(self, optimizer: torch.optim.Optimizer) -> None: ...


class Attachment:
    """Clips in every `optimizer.step()`, just before the optimizer reads the gradients.

    That is the right moment under gradient accumulation and under `torch.amp.GradScaler`, also where a fused optimizer
    unscales by itself. A step that is to be left out leaves the optimizer's state and the parameters as they are. A
    fused optimizer multiplies by the coefficient itself (`fold`), which saves a pass over the gradients.

    Under GradScaler, gradients that overflow are the scaler's business: they are neither recorded nor counted. A copied
    or pickled optimizer has no hooks, so the clipper has to be attached to the copy.

    Args:
        clipper: the strategy.
        optimizer: any optimizer of torch; also one that Accelerate has wrapped.
        parameters: pairs of name and parameter for strategies that need names; None: as the optimizer has them.
        fold: as described.

    Attributes:
        clipper: the strategy.
        result: the last step's; None before the first one.

    Raises:
        TypeError: `optimizer` isn't an optimizer.
        ValueError: the optimizer has a clipper already, or one of its parameters no name in `parameters`; and in
            `optimizer.step(closure)`, since the gradients would come after the clipping.
    """

    _attached: ClassVar[WeakSet[torch.optim.Optimizer]] = WeakSet()

    def __init__(
        self, clipper: Strategy, optimizer: torch.optim.Optimizer, parameters: Parameters | None, fold: bool
    ) -> None:
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
        self.result: ClipResult | None = None
        self.clipper = clipper
        self._fold = fold
        self._names = {} if parameters is None else _names(parameters)
        self._previous: dict[str, object] = {}  # the optimizer's attributes before this step
        self._dropped: list[tuple[Tensor, Tensor]] = []  # gradients that a skipped step doesn't see
        self._optimizer = optimizer
        if optimizer in self._attached:
            raise ValueError("optimizer: it has a clipper already; remove() that attachment, or attach a Chain of both")
        self._parameters()  # raises where a name is missing
        clipper.attached_to(optimizer)
        self._attached.add(optimizer)
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Ends the clipping in the optimizer's step."""
        for handle in self._handles:
            handle.remove()
        self._restore()
        self._attached.discard(self._optimizer)

    def _parameters(self) -> list[tuple[str, Tensor]] | list[Tensor]:
        """What the optimizer steps, with names where there are any."""
        groups = self._optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        if self._names:
            for position, parameter in enumerate(parameters):
                if id(parameter) not in self._names:
                    raise ValueError(
                        f"parameters: the optimizer's parameter {position}, of shape {tuple(parameter.shape)}, has no"
                        " name among them; pass model.named_parameters() of the model that the optimizer trains"
                    )
            return [(self._names[id(parameter)], parameter) for parameter in parameters]
        if all("param_names" in group for group in groups):  # made from named parameters
            names = [name for group in groups for name in group["param_names"]]
            return list(zip(names, parameters, strict=True))
        return parameters

    @torch.no_grad()
    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._restore()  # what a step that raised left behind
        if kwargs.get("closure") is not None or any(callable(argument) for argument in args[1:]):
            raise ValueError(
                "closure: optimizer.step(closure) computes the gradients after an attached clipper has run; call"
                " clipper.clip_(model.parameters()) at the end of the closure instead of attaching the clipper"
            )
        parameters = self._parameters()
        if all(parameter.grad is None for group in optimizer.param_groups for parameter in group["params"]):
            self.result = ClipResult(0.0)  # to torch, too, a step without gradients is none
            return
        fused = all(group.get("fused") for group in optimizer.param_groups)
        grad_scale = getattr(optimizer, "grad_scale", None) if fused else None
        grads = Gradients(parameters, grad_scale, self.clipper.needs_max, self.clipper.per_tensor)
        if fused and not self.clipper.on_device and _overflow(optimizer, grads):
            self.result = ClipResult(grads.norm, math.nan, should_step=False)
            return  # GradScaler lowers its scale, and the fused optimizer leaves out the step by itself
        self.result = self.clipper.apply(grads)
        if fused:
            self._tell_fused(optimizer, grads)
        if fused and self.clipper.on_device:
            self._tell_to_skip(optimizer, self.result.raw.should_step)
        elif not self.result.should_step:
            self._dropped = [
                (parameter, parameter.grad) for parameter in grads.parameters if parameter.grad is not None
            ]
            for parameter, _ in self._dropped:
                parameter.grad = None
        grads.flush()

    def _tell_fused(self, optimizer: torch.optim.Optimizer, grads: Gradients) -> None:
        """Leaves the open factor to a fused optimizer, which divides by `grad_scale`."""
        device, scale = grads.tensors[0].device, grads.grad_scale
        if scale is None and getattr(optimizer, "grad_scale", None) is not None:
            self._set(optimizer, "grad_scale", torch.ones((), device=device))  # the strategy has unscaled them
        if self._fold and (isinstance(grads.factor, Tensor) or grads.factor != 1.0):
            factor = torch.as_tensor(grads.factor, dtype=torch.float64, device=device)
            self._set(optimizer, "grad_scale", ((1.0 if scale is None else scale) / factor).float())
            grads.factor = 1.0

    def _tell_to_skip(self, optimizer: torch.optim.Optimizer, should_step: bool | Tensor) -> None:
        """Leaves to a fused optimizer what the host doesn't know: it skips where `found_inf` is 1."""
        skip = (~torch.as_tensor(should_step)).float()
        already = getattr(optimizer, "found_inf", None)
        self._set(optimizer, "found_inf", skip if already is None else torch.maximum(skip, already))

    def _set(self, optimizer: torch.optim.Optimizer, name: str, value: Tensor) -> None:
        self._previous.setdefault(name, getattr(optimizer, name, MISSING))
        setattr(optimizer, name, value)

    def _after(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._restore()

    def _restore(self) -> None:
        """Gives the optimizer its attributes and the parameters their gradients back: they would stay for good."""
        for name, value in self._previous.items():
            if value is MISSING:
                delattr(self._optimizer, name)
            else:
                setattr(self._optimizer, name, value)
        for parameter, grad in self._dropped:
            parameter.grad = grad
        self._previous, self._dropped = {}, []


def _names(parameters: Parameters) -> dict[int, str]:
    names = {}
    for pair in as_list(parameters):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError("parameters: expected (name, parameter) pairs, as model.named_parameters() gives them")
        names[id(pair[1])] = pair[0]
    if not names:
        raise ValueError("parameters: got none (a generator is exhausted after one use)")
    return names


def _overflow(optimizer: torch.optim.Optimizer, grads: Gradients) -> bool:
    """Whether GradScaler has found that its scale was too large; asks the device only where the norm says so."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and not math.isfinite(grads.norm) and bool(found_inf)
