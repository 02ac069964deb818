"""Several strategies, one after the other."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from gradclip.autoclip_on_device import AutoClipOnDevice
from gradclip.clipper import Clipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State


class Chain(Clipper):
    """Applies several strategies in their order, each to what the ones before it left.

    A member that leaves out the step ends the chain: the ones behind it neither see nor record the gradient. The
    result's threshold is the smallest of the members'. Factors of the whole gradient are multiplied, so a chain of
    them writes the gradients once.

    Args:
        clippers: the members, by name (the names are the keys of the state) or as a list.
        on_nonfinite: see `Clipper`; the members' own settings don't count.

    State: the members'. Cost: the members', with one measurement for all that scale.

    Raises:
        TypeError, ValueError: there are none, or one isn't a strategy that can be a member.
    """

    def __init__(self, clippers: Mapping[str, Clipper] | Iterable[Clipper], on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        if isinstance(clippers, Clipper) or not isinstance(clippers, Iterable):
            raise TypeError(f"clippers: expected several clippers, got {type(clippers).__name__}")
        if not isinstance(clippers, Mapping):
            clippers = {str(position): clipper for position, clipper in enumerate(clippers)}
        if not clippers:
            raise ValueError("clippers: expected at least one, got none")
        for name, clipper in clippers.items():
            if not isinstance(clipper, Clipper):
                raise TypeError(f"clippers[{name!r}]: expected a clipper, got {type(clipper).__name__}")
            if isinstance(clipper, AutoClipOnDevice):
                raise ValueError(f"clippers[{name!r}]: {type(clipper).__name__} can't be a member; use AutoClip")
        self.clippers = dict(clippers)
        if len({id(clipper) for clipper in self.clippers.values()}) < len(self.clippers):
            raise ValueError("clippers: one of them stands there twice and would record each norm twice; make another")
        self.needs_max = any(clipper.needs_max for clipper in self.clippers.values())
        self.per_tensor = any(clipper.per_tensor for clipper in self.clippers.values())

    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None:
        for clipper in self.clippers.values():
            clipper.attached_to(*optimizers)

    def _clip(self, grads: Gradients) -> ClipResult:
        norm, threshold, should_step = grads.norm, math.inf, True
        for name, clipper in self.clippers.items():
            if clipper.attachment is not None:
                raise ValueError(f"clippers[{name!r}]: it is attached by itself too; remove() that attachment")
            clipper._owner.check(grads.all_parameters)
            result = clipper._clip(grads)
            clipper._owner.meet(grads.all_parameters)
            threshold = min(threshold, result.threshold)
            should_step = result.should_step
            if not should_step:
                break
        return ClipResult(norm, threshold, grads.coefficient(), should_step)

    def _state(self) -> dict[str, Any]:
        return {"clippers": {name: clipper.state_dict() for name, clipper in self.clippers.items()}}

    def _restore(self, state: State) -> None:
        states = state.get("clippers")
        if not isinstance(states, Mapping) or set(states) != set(self.clippers):
            members = sorted(states) if isinstance(states, Mapping) else states
            raise ValueError(f"clippers: the state has {members!r}, this chain {sorted(self.clippers)!r}")
        before = self._state()["clippers"]
        try:
            for name, clipper in self.clippers.items():
                clipper.load_state_dict(states[name])
        except ValueError as error:
            for name, clipper in self.clippers.items():
                clipper.load_state_dict(before[name])
            raise ValueError(f"clippers[{name!r}]: {error}") from error
