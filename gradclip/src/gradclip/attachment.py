"""A clipper inside of an optimizer's step."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from gradclip.attachable import attachable, has_unscaled, is_fused, is_nested, running_scaler, takes_scale
from gradclip.checks import check_patterns
from gradclip.gradients import Gradients, Parameters, as_list, plain_name
from gradclip.names import matches, require_matches
from gradclip.result import ClipResult
from gradclip.step_changes import StepChanges

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
Exclude = Iterable[str | torch.optim.Optimizer]
STILL_SCALED = (
    "optimizer: its gradients are scaled still; call scaler.unscale_(optimizer) for each optimizer before the first"
    " scaler.step(optimizer)"
)


class Strategy(Protocol):
    """What an attachment needs of a clipper; see `Clipper`."""

    needs_max: bool
    per_tensor: bool
    on_device: bool

    def apply(self, grads: Gradients) -> ClipResult: ...
    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None: ...


class Attachment:
    """Clips in every `optimizer.step()`, just before the optimizer reads the gradients.

    That is the right moment under gradient accumulation and under `torch.amp.GradScaler`, also where a fused optimizer
    unscales by itself. A step that is to be left out leaves the optimizer's state and the parameters as they are. A
    fused optimizer multiplies by the coefficient itself (`fold`), which saves a pass over the gradients.

    Several optimizers step in turn. The first to step clips the gradients of all by one norm; a step that is to be left
    out is left out by all. Where their steps aren't all taken before the next backward pass, each needs a clipper of
    its own, and an error says so.

    Under GradScaler, gradients that overflow are the scaler's business: they are neither recorded nor counted (but
    `nonfinite_steps` of strategies that decide on the device counts those that a fused optimizer skips). A copied or
    pickled optimizer has no hooks, so the clipper has to be attached to the copy.

    Args:
        clipper: the strategy.
        optimizer: any optimizer of torch, or several; also one that Accelerate has wrapped.
        parameters: pairs of name and parameter for strategies that need names; None: as the optimizer has them.
        exclude: patterns of names, or optimizers among them: their gradients are neither measured nor clipped.
        fold: as described; only for one optimizer and without exclusions.

    Attributes:
        clipper: the strategy.
        result: the last step's; None before the first one.

    Raises:
        TypeError: `optimizer` or `exclude` isn't as described.
        ValueError: an optimizer has a clipper already or takes steps that run no hooks, or a parameter has no name in
            `parameters`. In a step: it has a closure, since the gradients would come after the clipping; several
            optimizers don't step in turn; or GradScaler hasn't unscaled all gradients that are measured.
    """

    _attached: ClassVar[WeakSet[torch.optim.Optimizer]] = WeakSet()

    def __init__(
        self,
        clipper: Strategy,
        optimizer: Optimizers,
        parameters: Parameters | None = None,
        exclude: Exclude = (),
        fold: bool = True,
    ) -> None:
        self.result: ClipResult | None = None
        self.clipper = clipper
        self._optimizers = attachable(optimizer)
        self._names = {} if parameters is None else _names(parameters)
        self._excluded_optimizers, self._excluded_names = _excluded(exclude, self._optimizers)
        self._whole = len(self._optimizers) == 1 and not self._excluded_optimizers and not self._excluded_names
        self._fold = fold and self._whole
        self._waiting: dict[torch.optim.Optimizer, list[tuple[Tensor, int]]] = {}  # those that have yet to step
        if any(each in self._attached for each in self._optimizers):
            raise ValueError("optimizer: it has a clipper already; remove() that attachment, or attach a Chain of both")
        self._parameters()  # raises where a name is missing
        clipper.attached_to(*self._optimizers)
        self._changes = {each: StepChanges(each) for each in self._optimizers}
        self._attached.update(self._optimizers)
        self._handles = [
            handle
            for each in self._optimizers
            for handle in (each.register_step_pre_hook(self._before), each.register_step_post_hook(self._after))
        ]

    @property
    def is_active(self) -> bool:
        """Whether it hasn't been removed."""
        return bool(self._handles)

    def remove(self) -> None:
        """Ends the clipping in the optimizer's step."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for optimizer, changes in self._changes.items():
            changes.undo()
            self._attached.discard(optimizer)

    @torch.no_grad()
    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_nested(optimizer):
            return
        self._changes[optimizer].undo()  # what a step that raised left behind
        if kwargs.get("closure") is not None or any(callable(argument) for argument in args[1:]):
            raise ValueError(
                "closure: optimizer.step(closure) computes the gradients after an attached clipper has run; call"
                " clipper.clip_(model.parameters()) at the end of the closure instead of attaching the clipper"
            )
        scaler = kwargs.get("grad_scaler")  # of an optimizer that unscales in its step by itself
        if isinstance(scaler, GradScaler) and not has_unscaled(scaler, optimizer):
            raise ValueError(STILL_SCALED)
        if optimizer in self._waiting:
            self._go_on(optimizer)
        else:
            self._begin(optimizer)

    def _begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips, in the first of the optimizers' steps."""
        late, self._waiting = self._waiting, {}
        if late and self.result is not None and self.result.should_step:
            raise ValueError(self._out_of_turn(next(iter(late)), "was left out"))
        parameters = self._parameters()
        if all(parameter.grad is None for _, parameter in parameters):
            self.result = ClipResult(0.0)  # to torch, too, a step without gradients is none
            return
        scales = takes_scale(optimizer)
        grad_scale = getattr(optimizer, "grad_scale", None) if scales else None
        scaler = None if self._whole else self._require_unscaled(grad_scale)
        measured = parameters if all(name for name, _ in parameters) else [parameter for _, parameter in parameters]
        grads = Gradients(measured, grad_scale, self.clipper.needs_max, self.clipper.per_tensor)
        if not self.clipper.on_device and _overflow(optimizer, scaler, scales, grads):
            self.result = ClipResult(grads.norm, math.nan, should_step=False)
        else:
            self.result = self.clipper.apply(grads)
            if scales and self._whole:
                self._tell_optimizer(optimizer, grads)
            grads.flush()
        self._waiting = {
            other: [(grad, grad._version) for grad in _gradients(other)]
            for other in self._optimizers
            if other is not optimizer
        }
        self._skip_if_told(optimizer)

    def _go_on(self, optimizer: torch.optim.Optimizer) -> None:
        """The step of an optimizer whose gradients were clipped in another one's."""
        clipped, now = self._waiting.pop(optimizer), _gradients(optimizer)
        same = len(clipped) == len(now) and all(
            grad is then and grad._version == version for grad, (then, version) in zip(now, clipped, strict=True)
        )
        if not same:
            self._waiting = {}
            raise ValueError(self._out_of_turn(optimizer, "got other gradients"))
        self._skip_if_told(optimizer)

    def _out_of_turn(self, optimizer: torch.optim.Optimizer, fault: str) -> str:
        return (
            f"optimizer: the step of {type(optimizer).__name__} (number {self._optimizers.index(optimizer)}) {fault}"
            " since the step that clipped by one norm for all; optimizers that don't step in turn need a clipper each"
        )

    def _skip_if_told(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps the optimizer from stepping where the clipper says so."""
        assert self.result is not None
        if self.clipper.on_device and is_fused(optimizer):
            # The host doesn't know, but a fused optimizer skips where `found_inf` is 1.
            skip = (~torch.as_tensor(self.result.raw.should_step)).float()
            already = getattr(optimizer, "found_inf", None)
            self._changes[optimizer].set_attribute(
                "found_inf", skip if already is None else torch.maximum(skip, already)
            )
        elif not self.result.should_step:
            self._changes[optimizer].drop_gradients()

    def _tell_optimizer(self, optimizer: torch.optim.Optimizer, grads: Gradients) -> None:
        """What it has to divide by: leaves the open factor to a fused one."""
        device, scale, changes = grads.tensors[0].device, grads.grad_scale, self._changes[optimizer]
        if scale is None and getattr(optimizer, "grad_scale", None) is not None:
            changes.set_attribute("grad_scale", torch.ones((), device=device))  # the strategy has unscaled them
        if self._fold and is_fused(optimizer) and (isinstance(grads.factor, Tensor) or grads.factor != 1.0):
            factor = torch.as_tensor(grads.factor, dtype=torch.float64, device=device)
            changes.set_attribute("grad_scale", ((1.0 if scale is None else scale) / factor).float())
            grads.factor = 1.0

    def _require_unscaled(self, grad_scale: Tensor | None) -> GradScaler | None:
        """The scaler inside of whose step this is; raises ValueError where gradients that are measured are scaled."""
        scaler = running_scaler()
        if grad_scale is not None or (scaler and not all(has_unscaled(scaler, each) for each in self._optimizers)):
            raise ValueError(f"{STILL_SCALED}, since the clipper needs one norm over several, or over a part")
        return scaler

    def _after(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not is_nested(optimizer):
            self._changes[optimizer].undo()

    def _parameters(self) -> list[tuple[str, Tensor]]:
        """What is measured and clipped, with names where there are any and else with ""."""
        optimizers = [each for each in self._optimizers if each not in self._excluded_optimizers]
        pairs = [pair for optimizer in optimizers for pair in self._named(optimizer)]
        if not self._excluded_names:
            return pairs
        if not all(name for name, _ in pairs):
            raise ValueError("exclude: patterns need names; pass parameters=model.named_parameters()")
        require_matches("exclude", self._excluded_names, [plain_name(name) for name, _ in pairs])
        kept = [pair for pair in pairs if not matches(plain_name(pair[0]), self._excluded_names)]
        if pairs and not kept:
            raise ValueError(f"exclude: {self._excluded_names!r} leave nothing to clip; leave some parameters in")
        return kept

    def _named(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
        groups = optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        if self._names:
            for position, parameter in enumerate(parameters):
                if id(parameter) not in self._names:
                    raise ValueError(
                        f"parameters: the optimizer's parameter {position}, of shape {tuple(parameter.shape)}, has no"
                        " name among them; pass model.named_parameters() of the model that the optimizer trains"
                    )
            return [self._names[id(parameter)] for parameter in parameters]
        if all("param_names" in group for group in groups):  # made from named parameters
            names = [name for group in groups for name in group["param_names"]]
            return list(zip(names, parameters, strict=True))
        return [("", parameter) for parameter in parameters]


def _excluded(
    exclude: Exclude, optimizers: list[torch.optim.Optimizer]
) -> tuple[list[torch.optim.Optimizer], list[str]]:
    """The optimizers and the patterns among what is excluded."""
    if isinstance(exclude, str) or not isinstance(exclude, Iterable):
        exclude = [exclude] if isinstance(exclude, torch.optim.Optimizer) else check_patterns("exclude", exclude)
    listed = list(exclude)
    those = [each for each in listed if isinstance(each, torch.optim.Optimizer)]
    unwrapped = attachable(those) if those else []
    if any(each not in optimizers for each in unwrapped) or len(unwrapped) == len(optimizers):
        raise ValueError("exclude: expected some of the optimizers that the clipper is attached to, not all, no others")
    return unwrapped, check_patterns("exclude", [each for each in listed if each not in those])


def _names(parameters: Parameters) -> dict[int, tuple[str, Tensor]]:
    """By identity; they are kept alive, so that no other parameter comes to have it."""
    names = {}
    for pair in as_list(parameters):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError("parameters: expected (name, parameter) pairs, as model.named_parameters() gives them")
        names[id(pair[1])] = pair
    if not names:
        raise ValueError("parameters: got none (a generator is exhausted after one use)")
    return names


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _overflow(optimizer: torch.optim.Optimizer, scaler: GradScaler | None, scales: bool, grads: Gradients) -> bool:
    """Whether GradScaler has found that its scale was too large; asks the device only where the norm says so."""
    if scaler is None and not scales:
        return False  # GradScaler leaves out the steps of such an optimizer by itself
    found_inf = getattr(optimizer, "found_inf", None)
    return not math.isfinite(grads.norm) and (scaler is not None or (found_inf is not None and bool(found_inf)))
