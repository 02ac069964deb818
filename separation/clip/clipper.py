"""What every clipping strategy has in common: one call per optimizer step, one result, one state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from separation.clip.norms import gradients, total_norm

Parameters = Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]
"""A tensor, tensors (`model.parameters()`), or pairs of name and tensor (`model.named_parameters()`)."""


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What a clipper measured and did in one step."""

    grad_norm: float
    """L2 norm of the gradient over all parameters, before clipping."""
    threshold: float
    """The largest norm let through; inf where nothing bounds it, NaN on a skipped step."""
    coefficient: float
    """What the gradient was multiplied by: min(1, threshold / grad_norm)."""
    should_step: bool = True
    """False where the gradient holds NaN or infinity: leave out the optimizer's step."""

    @property
    def clipped(self) -> bool:
        """Whether the gradient was made smaller."""
        return self.coefficient < 1.0


class Clipper(ABC):
    """Bounds the norm of the whole gradient by a threshold: g <- g * min(1, threshold / ||g||), without epsilon.

    Call `clip_` once per optimizer step: after accumulation, after the all-reduce of several processes and after
    unscaling, before `optimizer.step()`. A gradient that holds NaN or infinity is left as it is and never recorded, and
    the result's `should_step` is False. A zero gradient passes and is never recorded. A gradient below the threshold
    is not touched, so it stays bit-identical.
    """

    @torch.no_grad()
    def clip_(self, parameters: Parameters) -> ClipResult:
        """Clips the gradients of `parameters` in place.

        Raises:
            ValueError: there are no parameters, or none of them has a gradient.
            TypeError: `parameters` holds something else than tensors or (name, tensor) pairs.
        """
        grads = gradients(parameters)
        grad_norm = float(total_norm(grads))
        if not math.isfinite(grad_norm):
            return ClipResult(grad_norm, math.nan, 1.0, should_step=False)
        threshold = self._threshold(grad_norm)
        coefficient = min(1.0, threshold / grad_norm) if grad_norm > 0 else 1.0
        if coefficient < 1.0:
            torch._foreach_mul_(grads, coefficient)
        return ClipResult(grad_norm, threshold, coefficient)

    @abstractmethod
    def _threshold(self, grad_norm: float) -> float:
        """The threshold of this step; records `grad_norm` (finite, perhaps zero) where the strategy has a memory."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: loads with `torch.load(weights_only=True)`."""
        return {"strategy": type(self).__name__}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned.

        Raises:
            ValueError: the state is another strategy's.
        """
        strategy = state.get("strategy") if isinstance(state, dict) else state
        if strategy != type(self).__name__:
            raise ValueError(f"strategy: the state is of {strategy!r} and can't be loaded into {type(self).__name__}")
