"""AutoClip (Seetharaman, Wichern, Pardo, Le Roux, 2020)."""

import math
from typing import Any

import torch

from separation.clip.checks import check_number
from separation.clip.clipper import Clipper
from separation.clip.percentile import GrowingPercentile


class AutoClip(Clipper):
    """Bounds the norm of the whole gradient by the p-th percentile of all norms seen so far, the current one included.

    At step t, with g = ||gradient||: H <- H + {g}; threshold = percentile_p(H); gradient <- gradient * min(1, threshold
    / g). The first step is never clipped; p = 100 clips nothing, p = 0 clips everything to the smallest norm so far.
    Multiplying the loss by a constant multiplies the threshold by it, so the method needs no tuning to a loss's scale.
    Zero and non-finite norms are not recorded (one zero would freeze p = 0 for ever): a deviation from Algorithm 1.

    Args:
        p: percentile in [0, 100]; may be changed between steps.

    Reference: P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for Source
    Separation Networks", IEEE MLSP 2020, Algorithm 1.
    State: every norm, 8 bytes a step.

    Raises:
        TypeError, ValueError: `p` is no number in [0, 100].
    """

    def __init__(self, p: float = 10.0) -> None:
        self.p = p
        self._history = GrowingPercentile()

    @property
    def p(self) -> float:
        """The percentile, in [0, 100]."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        p = check_number("p", value, "a percentile in [0, 100]")
        if not 0 <= p <= 100:
            raise ValueError(f"p: expected a percentile in [0, 100], got {value!r}")
        self._p = p

    def _threshold(self, grad_norm: float) -> float:
        if grad_norm > 0:
            self._history.add(grad_norm)
        return self._history.percentile(self.p) if len(self._history) else math.inf

    def state_dict(self) -> dict[str, Any]:
        history = torch.tensor(self._history.values, dtype=torch.float64)
        return {**super().state_dict(), "p": self.p, "history": history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        history = state.get("history")
        if not isinstance(history, torch.Tensor) or history.ndim != 1 or history.is_complex():
            raise ValueError(f"history: expected a tensor of norms, got {history!r}")
        if not (history.isfinite() & (history > 0)).all():
            raise ValueError("history: expected finite norms > 0")
        self.p = state.get("p", math.nan)
        self._history = GrowingPercentile(history.tolist())
