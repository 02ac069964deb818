"""Clipping by a fixed norm (Pascanu et al., 2013)."""

from gradclip.checks import check_positive
from gradclip.clipper import NormClipper


class FixedClip(NormClipper):
    """Bounds the norm of the whole gradient by the constant `max_norm`: g <- g * min(1, max_norm / ||g||).

    Args:
        max_norm: the threshold, > 0; Pascanu et al. suggest 5 to 10 times the mean norm. May be changed between steps.
        on_nonfinite: see `Clipper`.

    Reference: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    State: none. Cost: one pass that reads the gradients, and one that writes them where it clips.

    Raises:
        TypeError, ValueError: `max_norm` is no number > 0.
    """

    def __init__(self, max_norm: float = 1.0, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.max_norm = max_norm

    @property
    def max_norm(self) -> float:
        """The threshold, > 0."""
        return self._max_norm

    @max_norm.setter
    def max_norm(self, value: float) -> None:
        self._max_norm = check_positive("max_norm", value)

    def _threshold(self, grad_norm: float) -> float:
        return self.max_norm

    def _samples_threshold(self, norms: list[float]) -> float:
        return self.max_norm
