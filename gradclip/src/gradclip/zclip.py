"""ZClip (Kumar et al., 2025)."""

import math
from typing import Any

from gradclip.checks import check_count, check_decay, check_positive
from gradclip.clipper import NormClipper
from gradclip.state import State


class ZClip(NormClipper):
    """Bounds a norm whose z-score lies above tau by a value that is the nearer to the running mean the higher it lies.

    With z = (n - mu) / sigma: where z > tau, threshold = mu + tau^2 * sigma / z; x = min(n, threshold);
    mu <- alpha * mu + (1 - alpha) * x; sigma^2 <- alpha * sigma^2 + (1 - alpha) * (x - mu)^2 with the new mu.
    The first `warmup` norms pass and give the first mean and variance. Without the published package's epsilon (1e-6 on
    sigma and on n), which would make the method depend on the loss's scale, and without its second clip at 1.0.

    Args:
        alpha: decay of the running mean and variance, in [0, 1).
        tau: the z-score above which a norm is bounded, > 0.
        warmup: how many norms give the first mean and variance, >= 1.
        on_nonfinite: see `Clipper`.

    Reference: A. Kumar, L. Owen, N. Roy Chowdhury, F. Guera, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training",
    2025, Algorithm 1 (reciprocal clipping).
    State: mean and variance, or the warm-up's norms. Cost: as fixed clipping.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(self, alpha: float = 0.97, tau: float = 2.5, warmup: int = 25, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.alpha = check_decay("alpha", alpha)
        self.tau = check_positive("tau", tau)
        self.warmup = check_count("warmup", warmup)
        self._first: list[float] = []
        self._mean = 0.0
        self._variance = 0.0

    def _threshold(self, grad_norm: float) -> float:
        if grad_norm == 0:
            return math.inf
        if len(self._first) < self.warmup:
            self._first.append(grad_norm)
            if len(self._first) == self.warmup:
                self._mean = sum(self._first) / self.warmup
                self._variance = sum((norm - self._mean) ** 2 for norm in self._first) / self.warmup
            return math.inf
        excess = grad_norm - self._mean
        threshold = math.inf
        if excess > self.tau * math.sqrt(self._variance):
            threshold = self._mean + self.tau**2 * self._variance / excess
        kept = min(grad_norm, threshold)
        self._mean = self.alpha * self._mean + (1 - self.alpha) * kept
        self._variance = self.alpha * self._variance + (1 - self.alpha) * (kept - self._mean) ** 2
        return threshold

    def _state(self) -> dict[str, Any]:
        return {"warmup": self.warmup, "first": tuple(self._first), "mean": self._mean, "variance": self._variance}

    def _restore(self, state: State) -> None:
        state.expect("warmup", self.warmup)
        first, mean, variance = state.norms("first"), state.number("mean"), state.number("variance")
        self._first, self._mean, self._variance = first, mean, variance
