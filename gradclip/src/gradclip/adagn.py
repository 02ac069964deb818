"""AdaGN, the norm scaling of Stable-SPAM (Huang et al., 2025)."""

import math
from typing import Any

from gradclip.checks import check_decay, check_number
from gradclip.clipper import TensorClipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State, pairs


class AdaGN(TensorClipper):
    """Sets each tensor's norm to the running mean of its norms divided by their running root mean square.

    mu <- gamma1 * mu + (1 - gamma1) * n; nu <- gamma2 * nu + (1 - gamma2) * n^2; with bias-corrected mu^ and nu^,
    g <- g / n * mu^ / (sqrt(nu^) + eps). A norm near 1 comes out whatever the loss's scale, and it may be larger than
    the one that went in.

    Args:
        gamma1: decay of the mean, in [0, 1).
        gamma2: decay of the mean square, in [0, 1).
        eps: added to the root mean square, >= 0. Above 0 it makes the method depend on the loss's scale.
        on_nonfinite: see `Clipper`.

    Reference: T. Huang et al., "Stable-SPAM: How to Train in 4-Bit More Stably than 16-Bit Adam", 2025, Algorithm 1.
    State: mu, nu and the number of steps of each tensor, by name. Cost: one pass that reads the gradients and one that
    writes them; needs names.

    Raises:
        TypeError, ValueError: an argument isn't as described.
    """

    def __init__(self, gamma1: float = 0.7, gamma2: float = 0.9, eps: float = 1e-8, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.gamma1 = check_decay("gamma1", gamma1)
        self.gamma2 = check_decay("gamma2", gamma2)
        self.eps = check_number("eps", eps, "a finite number >= 0", lambda number: 0 <= number < math.inf)
        self._moments: dict[str, list[float]] = {}  # of each tensor: mean, mean square, steps

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        norm = grads.norm
        grads.scale_each_([self._factor(name, n) for name, n in zip(grads.names, grads.norms, strict=True)])
        return ClipResult(norm, coefficient=grads.coefficient())

    def _factor(self, name: str, norm: float) -> float:
        """Records the tensor's norm and returns what to multiply the tensor by."""
        if norm * norm == 0:
            return 1.0
        mean, square, steps = self._moments.get(name, (0.0, 0.0, 0.0))
        mean = self.gamma1 * mean + (1 - self.gamma1) * norm
        square = self.gamma2 * square + (1 - self.gamma2) * norm * norm
        steps += 1
        self._moments[name] = [mean, square, steps]
        root = math.sqrt(square / (1 - self.gamma2**steps))
        return mean / (1 - self.gamma1**steps) / (root + self.eps) / norm

    def _state(self) -> dict[str, Any]:
        return {"moments": pairs(self._moments)}

    def _restore(self, state: State) -> None:
        self._moments = state.rows("moments", 3)
        self._restored = set(self._moments)
