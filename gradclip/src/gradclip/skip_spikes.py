"""Leaves out steps whose gradient norm is a spike."""

import math
from collections import deque
from typing import Any

from gradclip.checks import check_count, check_number
from gradclip.clipper import Clipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State

SMALLEST_DEVIATION = 0.001


class SkipSpikes(Clipper):
    """Leaves out the whole step where the log-norm lies k standard deviations above its mean over the last steps.

    should_step = log n <= mean + k * max(std, 0.001), over the log-norms of the last `window` steps before this one,
    once there are half as many. (Norms that agree to a thousandth have no spikes.) The gradient is never changed.
    A spike's norm is recorded too, so that a lasting change of level is accepted after a few steps instead of stopping
    the training for ever.

    Args:
        k: standard deviations, > 0.
        window: steps, >= 4.
        on_nonfinite: see `Clipper`.

    Reference: the step-skipping optimizer of OLMo 2 (Team OLMo, "2 OLMo 2 Furious", 2024; 6 standard deviations over
    128 steps), here on the logarithm of the norm, whose spread doesn't depend on the loss's scale.
    State: the last `window` norms. Cost: one pass that reads the gradients.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(self, k: float = 6.0, window: int = 128, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.k = check_number("k", k, "a finite number > 0", lambda number: 0 < number < math.inf)
        self.window = check_count("window", window, minimum=4)
        self._norms: deque[float] = deque(maxlen=self.window)

    def _clip(self, grads: Gradients) -> ClipResult:
        norm = grads.norm
        if norm == 0:
            return ClipResult(norm)
        threshold = self._threshold()
        self._norms.append(norm)
        return ClipResult(norm, threshold, should_step=norm <= threshold)

    def _threshold(self) -> float:
        if len(self._norms) < self.window // 2:
            return math.inf
        logs = [math.log(norm) for norm in self._norms]
        mean = math.fsum(logs) / len(logs)
        variance = math.fsum((value - mean) ** 2 for value in logs) / (len(logs) - 1)
        deviation = max(math.sqrt(variance), SMALLEST_DEVIATION)
        return math.exp(min(mean + self.k * deviation, 700.0))  # e^700 is near the largest float

    def _state(self) -> dict[str, Any]:
        return {"window": self.window, "norms": tuple(self._norms)}

    def _restore(self, state: State) -> None:
        state.expect("window", self.window)
        self._norms = deque(state.norms("norms"), maxlen=self.window)
