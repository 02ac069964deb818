"""AdaGC (Wang et al., 2025)."""

import math
from typing import Any

from gradclip.checks import check_count, check_decay, check_positive
from gradclip.clipper import TensorClipper, factor_to_threshold
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State


class AdaGC(TensorClipper):
    """Bounds each tensor's norm by a multiple of the running mean of that tensor's own clipped norms.

    For `warmup` steps: clip the whole gradient to l_abs; gamma_i = min(gamma_i, norm of tensor i after that). From then
    on: g_i <- g_i * min(1, l_rel * gamma_i / n_i); gamma_i <- beta * gamma_i + (1 - beta) * norm of the clipped g_i.
    Zero norms are not recorded (one would freeze gamma_i). A tensor whose first gradient comes after the warm-up begins
    with its own norm.

    Args:
        l_abs: threshold of the whole gradient in the warm-up, > 0.
        l_rel: multiple of the running mean, > 0.
        beta: decay of the running mean, in [0, 1).
        warmup: steps, >= 0.
        on_nonfinite: see `Clipper`.

    Reference: G. Wang et al., "AdaGC: Improving Training Stability for Large Language Model Pretraining", 2025,
    Algorithm 1.
    State: gamma of each tensor, by name, and the number of steps. Cost: as fixed clipping; needs names.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(
        self,
        l_abs: float = 1.0,
        l_rel: float = 1.05,
        beta: float = 0.98,
        warmup: int = 100,
        on_nonfinite: str = "skip",
    ) -> None:
        super().__init__(on_nonfinite)
        self.l_abs = check_positive("l_abs", l_abs)
        self.l_rel = check_positive("l_rel", l_rel)
        self.beta = check_decay("beta", beta)
        self.warmup = check_count("warmup", warmup, minimum=0)
        self._steps = 0
        self._gamma: dict[str, float] = {}

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        norm = grads.norm
        warming_up = self._steps < self.warmup
        self._steps += 1
        if warming_up:
            grads.scale_(factor_to_threshold(norm, self.l_abs))
            for name, clipped in zip(grads.names, grads.norms, strict=True):
                if clipped > 0:
                    self._gamma[name] = min(self._gamma.get(name, math.inf), clipped)
            return ClipResult(norm, self.l_abs, grads.coefficient())
        thresholds, factors = [], []
        for name, tensor_norm in zip(grads.names, grads.norms, strict=True):
            gamma = self._gamma.get(name, tensor_norm)
            threshold = self.l_rel * gamma
            factors.append(factor_to_threshold(tensor_norm, threshold))
            thresholds.append(threshold)
            if tensor_norm > 0:
                self._gamma[name] = self.beta * gamma + (1 - self.beta) * min(tensor_norm, threshold)
        grads.scale_each_(factors)
        return ClipResult(norm, math.hypot(*thresholds), grads.coefficient())

    def _state(self) -> dict[str, Any]:
        return {"steps": self._steps, "gamma": tuple((name, (gamma,)) for name, gamma in self._gamma.items())}

    def _restore(self, state: State) -> None:
        steps, gamma = state.count("steps"), state.rows("gamma", 1)
        self._steps, self._gamma = steps, {name: value for name, [value] in gamma.items()}
        self._restored = set(gamma)
