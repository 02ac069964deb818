"""Clipping by value."""

import torch

from gradclip.checks import check_positive
from gradclip.clipper import Clipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult


class ValueClip(Clipper):
    """Bounds each entry of the gradient by the constant `max_value`: g_i <- max(-v, min(v, g_i)).

    It changes the gradient's direction. There is no published default: the right value is as small or large as the
    loss's scale makes it.

    Args:
        max_value: v, > 0.
        on_nonfinite: see `Clipper`.

    Reference: `torch.nn.utils.clip_grad_value_`; T. Mikolov, "Statistical Language Models Based on Neural Networks",
    PhD thesis, 2012.
    State: none. Cost: two passes that read the gradients, and one that writes those with an entry above v.

    Raises:
        TypeError, ValueError: `max_value` is no number > 0.
    """

    needs_max = True

    def __init__(self, max_value: float, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.max_value = check_positive("max_value", max_value)

    def _clip(self, grads: Gradients) -> ClipResult:
        norm, largest = grads.norm, grads.max_abs
        if max(largest) > self.max_value:
            large = [t for t, value in zip(grads.entries(), largest, strict=True) if value > self.max_value]
            torch._foreach_clamp_min_(large, -self.max_value)
            torch._foreach_clamp_max_(large, self.max_value)
        return ClipResult(norm, coefficient=grads.coefficient())
