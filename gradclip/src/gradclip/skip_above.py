"""Leaves out steps whose gradient norm is above a limit."""

from gradclip.checks import check_positive
from gradclip.clipper import Clipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult


class SkipAbove(Clipper):
    """Leaves out the whole step where the norm of the gradient is above a constant: should_step = ||g|| <= max_norm.

    The gradient is never changed. Where a single batch may be broken (a corrupt file, a failing device), clipping would
    still step in its direction.

    Args:
        max_norm: the limit, > 0; there is no published default. A limit below the usual norms stops the training, so
            watch `should_step`.
        on_nonfinite: see `Clipper`.

    Reference: a setting of many training programs, such as `drop_norm` in axlearn.
    State: none. Cost: one pass that reads the gradients.

    Raises:
        TypeError, ValueError: `max_norm` is no number > 0.
    """

    def __init__(self, max_norm: float, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.max_norm = check_positive("max_norm", max_norm)

    def _clip(self, grads: Gradients) -> ClipResult:
        return ClipResult(grads.norm, self.max_norm, should_step=grads.norm <= self.max_norm)
