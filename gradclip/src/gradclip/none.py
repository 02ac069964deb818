"""No clipping, but the norm is still measured."""

import math

from gradclip.clipper import NormClipper


class NoClip(NormClipper):
    """Bounds nothing; reports the norm of the whole gradient.

    State: none. Cost: one pass that reads the gradients.
    """

    def _threshold(self, grad_norm: float) -> float:
        return math.inf

    def _samples_threshold(self, norms: list[float]) -> float:
        return math.inf
