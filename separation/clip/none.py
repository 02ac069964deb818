"""No clipping, but the norm is still measured."""

import math

from separation.clip.clipper import Clipper


class NoClip(Clipper):
    """Bounds nothing; reports the norm of the whole gradient. State: none."""

    def _threshold(self, grad_norm: float) -> float:
        return math.inf
