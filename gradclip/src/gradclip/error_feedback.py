"""Clipping with error feedback (as in DiceSGD, Zhang et al., 2024, without its noise)."""

from typing import Any

import torch
from torch import Tensor

from gradclip.checks import check_positive
from gradclip.clipper import TensorClipper, factor_to_threshold
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State, pairs
from gradclip.tensors import remembered, zeros_like


class ErrorFeedback(TensorClipper):
    """Bounds the norm of the gradient by C1, and gives back in later steps, bounded by C2, what was cut off.

    v = clip(g, C1) + clip(e, C2); e <- e + g - v; the step is taken with v. Clipping alone has a bias that never
    vanishes; with the feedback all of every gradient arrives in the end. There is no published default.

    Args:
        max_norm: C1, > 0.
        max_error_norm: C2, >= C1.
        on_nonfinite: see `Clipper`.

    Reference: X. Zhang, Z. Bu, Z. S. Wu, M. Hong, "Differentially Private SGD Without Clipping Bias: An Error-Feedback
    Approach", ICLR 2024, Algorithm 1 with whole gradients and without noise.
    State: e, as large as the parameters. Cost: some six passes; needs names.

    Raises:
        TypeError, ValueError: an argument is not as described; in use, a restored e of another shape than its
            parameter.
    """

    def __init__(self, max_norm: float, max_error_norm: float, on_nonfinite: str = "skip") -> None:
        super().__init__(on_nonfinite)
        self.max_norm = check_positive("max_norm", max_norm)
        self.max_error_norm = check_positive("max_error_norm", max_error_norm)
        if self.max_error_norm < self.max_norm:
            raise ValueError(f"max_error_norm: expected at least max_norm={max_norm!r}, got {max_error_norm!r}")
        self._errors: dict[str, Tensor] = {}

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        grads.require_plain("ErrorFeedback")
        norm = grads.norm
        factor = factor_to_threshold(norm, self.max_norm)
        tensors = grads.entries()
        errors = [self._error(name, tensor) for name, tensor in zip(grads.names, tensors, strict=True)]
        norms = [torch.linalg.vector_norm(error, dtype=torch.float64) for error in errors]  # no square overflows
        error_norm = torch.linalg.vector_norm(torch.stack(norms))
        given_back = (self.max_error_norm / error_norm).clamp(max=1.0)  # of zeros: inf, so 1
        for tensor, error in zip(tensors, errors, strict=True):
            grad = tensor.to(error.dtype)
            step = factor * grad + given_back * error
            error.add_(grad).sub_(step)
            tensor.copy_(step)
        return ClipResult(norm, self.max_norm + self.max_error_norm, grads.coefficient())

    def _error(self, name: str, tensor: Tensor) -> Tensor:
        error = remembered(self._errors, name, tensor)
        if error is None:
            error = self._errors[name] = zeros_like(tensor)
        return error

    def _state(self) -> dict[str, Any]:
        return {"errors": pairs(self._errors)}

    def _restore(self, state: State) -> None:
        self._errors = state.tensors("errors")
        self._restored = set(self._errors)
