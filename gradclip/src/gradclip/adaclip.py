"""AdaClip, the spike clip of Stable-SPAM (Huang et al., 2025)."""

from typing import Any

import torch

from gradclip.checks import check_decay
from gradclip.clipper import TensorClipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State, pairs


class AdaClip(TensorClipper):
    """Bounds each entry by the running mean of the largest magnitudes in its tensor.

    With m = max |g_i| of a tensor: T <- gamma * T + (1 - gamma) * m; T^ = T / (1 - gamma^t); entries with |g_i| > T^
    become g_i / m * T^. A tensor of zeros is left out of the mean.

    Args:
        gamma: decay of the mean, in [0, 1).
        on_nonfinite: see `Clipper`.

    Reference: T. Huang et al., "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", 2025, Algorithm 1.
    State: T and the number of steps of each tensor, by name. Cost: two passes that read the gradients, and one or two
    more for the tensors with an entry above T^; needs names.

    Raises:
        TypeError, ValueError: `gamma` is no number in [0, 1).
    """

    needs_max = True

    def __init__(self, gamma: float = 0.999, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.gamma = check_decay("gamma", gamma)
        self._means: dict[str, list[float]] = {}  # of each tensor: T, steps

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        norm, largest = grads.norm, grads.max_abs
        limits = [self._limit(name, value) for name, value in zip(grads.names, largest, strict=True)]
        if any(limit < value for limit, value in zip(limits, largest, strict=True)):
            for tensor, limit, value in zip(grads.entries(), limits, largest, strict=True):
                if limit < value:
                    tensor.copy_(torch.where(tensor.abs() > limit, tensor * (limit / value), tensor))
        return ClipResult(norm, coefficient=grads.coefficient())

    def _limit(self, name: str, largest: float) -> float:
        """Records the tensor's largest magnitude and returns T^."""
        if largest == 0:
            return 0.0
        mean, steps = self._means.get(name, (0.0, 0.0))
        mean, steps = self.gamma * mean + (1 - self.gamma) * largest, steps + 1
        self._means[name] = [mean, steps]
        return mean / (1 - self.gamma**steps)

    def _state(self) -> dict[str, Any]:
        return {"means": pairs(self._means)}

    def _restore(self, state: State) -> None:
        self._means = state.rows("means", 2)
        self._restored = set(self._means)
