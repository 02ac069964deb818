"""Clipping by a fixed norm (Pascanu et al., 2013)."""

from separation.clip.checks import check_number
from separation.clip.clipper import Clipper


class FixedClip(Clipper):
    """Bounds the norm of the whole gradient by the constant `max_norm`: g <- g * min(1, max_norm / ||g||).

    Args:
        max_norm: the threshold, > 0; Pascanu et al. suggest 5 to 10 times the mean norm.

    Reference: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    State: none.

    Raises:
        TypeError, ValueError: `max_norm` is no number > 0.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = max_norm

    @property
    def max_norm(self) -> float:
        """The threshold, > 0."""
        return self._max_norm

    @max_norm.setter
    def max_norm(self, value: float) -> None:
        max_norm = check_number("max_norm", value, "a number > 0")
        if max_norm <= 0:
            raise ValueError(f"max_norm: expected a number > 0, got {value!r}")
        self._max_norm = max_norm

    def _threshold(self, grad_norm: float) -> float:
        return self.max_norm
