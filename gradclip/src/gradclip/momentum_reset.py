"""The momentum reset of SPAM and Stable-SPAM (Huang et al., 2025)."""

from typing import Any

import torch
from torch import Tensor

from gradclip.attachable import attachable, is_nested
from gradclip.checks import check_count
from gradclip.state import VERSION, State

INITIAL = {"step": 0, "exp_avg": 0, "exp_avg_sq": 0, "max_exp_avg_sq": 0, "exp_inf": 0, "mu_product": 1}
"""What optimizers of Adam's kind remember of a parameter, and what it is before the first step."""


class MomentumReset:
    """Makes an optimizer of Adam's kind forget its moments before every `interval`-th step.

    With m, v and t Adam's moments and step count: before the steps interval, 2 * interval, ...: m <- 0, v <- 0, t <- 0.
    So that step and those after it are the first ones of a new optimizer, with the bias correction that belongs to
    them. A spike that a clipper let through, or only bounded, then acts for `interval` steps at most, where it would
    stay in v for 1 / (1 - beta2).

        reset = MomentumReset(interval=1000).attach(optimizer)

    With `Chain([AdaClip(), AdaGN()])` attached to the same optimizer, this is Stable-SPAM; with `SpikeClip` on the
    optimizer's second moment and an interval of 500, SPAM. SPAM also multiplies the learning rate by
    (1 - cos(pi * i / 150)) / 2 in the 150 steps i after a reset, which Stable-SPAM gave up: that belongs to a learning
    rate schedule, and isn't done here.

    Works with Adam, AdamW, NAdam, RAdam, Adamax and others that keep nothing but `step`, `exp_avg`, `exp_avg_sq`,
    `max_exp_avg_sq`, `exp_inf` and `mu_product`, fused or not. A captured CUDA graph runs no hook, so there it raises.

    Args:
        interval: steps, >= 1.

    Attributes:
        steps: how often the optimizer has been called to step; those that a clipper leaves out count.

    Reference: T. Huang et al., "SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training", ICLR 2025
    (interval 500); T. Huang et al., "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", 2025 (1000).
    The authors' code uses the old moments once more in the step of a reset, and forgets its gradient; here that
    gradient is the first of the new moments.
    State: `steps`. Cost: one write of the moments every `interval` steps.

    Raises:
        TypeError, ValueError: `interval` is no whole number >= 1.
    """

    def __init__(self, interval: int = 1000) -> None:
        self.interval = check_count("interval", interval)
        self.steps = 0
        self._handle: torch.utils.hooks.RemovableHandle | None = None

    def attach(self, optimizer: torch.optim.Optimizer) -> "MomentumReset":
        """Resets in this optimizer's steps from now on, and returns itself.

        Raises:
            TypeError: it isn't an optimizer.
            ValueError: this reset has an optimizer already, or its steps run no hooks; and in a step, the optimizer
                isn't of Adam's kind, or the step is captured in a CUDA graph.
        """
        if self._handle is not None:
            raise ValueError("optimizer: this MomentumReset has one already; remove() it there, or make another")
        [hooked] = attachable([optimizer])
        self._handle = hooked.register_step_pre_hook(self._before)
        return self

    def remove(self) -> None:
        """Ends the resets."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"strategy": type(self).__name__, "version": VERSION, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; `interval` is the constructor's.

        Raises:
            ValueError: it is no such state; nothing has changed.
        """
        self.steps = State(state, type(self).__name__).count("steps")

    def __getstate__(self) -> dict[str, Any]:
        """A copied one isn't attached."""
        return {**self.__dict__, "_handle": None}

    @torch.no_grad()
    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise ValueError("interval: a captured CUDA graph can't count its steps; don't capture optimizer.step()")
        if is_nested(optimizer):
            return
        _check_kind(optimizer)
        self.steps += 1
        if self.steps % self.interval == 0:
            for memory in optimizer.state.values():
                for name, value in memory.items():
                    if isinstance(value, Tensor):
                        value.fill_(INITIAL[name])
                    else:
                        memory[name] = INITIAL[name]


def _check_kind(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError where the optimizer keeps something whose first value isn't known."""
    for memory in optimizer.state.values():
        unknown = [name for name in memory if name not in INITIAL]
        if unknown or (memory and "exp_avg" not in memory):
            kept = ", ".join(unknown or memory)
            raise ValueError(
                f"optimizer: {type(optimizer).__name__} keeps {kept}; a momentum reset needs one of Adam's kind"
            )
