"""Adaptive gradient clipping of normaliser-free networks (Brock et al., 2021)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gradclip.checks import check_patterns, check_positive
from gradclip.clipper import TensorClipper
from gradclip.gradients import Gradients
from gradclip.names import matches, require_matches
from gradclip.result import ClipResult
from gradclip.tensors import wide_dtype


class AGC(TensorClipper):
    """Bounds the gradient's norm of each output unit by a fraction of that unit's weight norm.

    For each unit u: g_u <- g_u * min(1, l * max(||w_u||, eps) / ||g_u||). A unit is a row of a matrix or of a
    convolution's weight (dimension 0), and a whole vector (biases, gains). The last layer is left out.

    Args:
        l: the fraction, > 0.
        eps: weight norms count as at least this, > 0; it lets zero-initialised weights move.
        exclude: "last": the parameters of the module that comes last; or patterns of names, such as ["mask.*"].
        transposed: patterns of the weights whose units lie on dimension 1, as in `ConvTranspose1d`.
        on_nonfinite: see `Clipper`.

    Reference: A. Brock, S. De, S. Smith, K. Simonyan, "High-Performance Large-Scale Image Recognition Without
    Normalization", ICML 2021, equation 3.
    State: none. Cost: some three passes over gradients and weights; needs names.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(
        self,
        l: float = 0.01,  # noqa: E741 (the paper's lambda)
        eps: float = 1e-3,
        exclude: str | Iterable[str] = "last",
        transposed: Iterable[str] = (),
        on_nonfinite: str = "skip",
    ) -> None:
        super().__init__(on_nonfinite)
        self.l = check_positive("l", l)
        self.eps = check_positive("eps", eps)
        self.exclude = None if exclude == "last" else check_patterns("exclude", exclude)
        self.transposed = check_patterns("transposed", transposed)

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        grads.require_plain("AGC")
        grads.require_parameters("AGC")
        norm = grads.norm
        clipped = [not excluded for excluded in self._excluded(grads)]
        for name, parameter, tensor, wanted in zip(
            grads.names, grads.parameters, grads.entries(), clipped, strict=True
        ):
            if wanted:
                unit = 1 if matches(name, self.transposed) else 0
                limit = self.l * _unit_norms(parameter, unit).clamp(min=self.eps)
                # A unit below its limit is multiplied by exactly 1; one of zeros by min(1, inf).
                factor = (limit / _unit_norms(tensor, unit, wide_dtype(norm))).clamp(max=1.0)
                tensor.copy_(tensor.to(factor.dtype) * factor)
        return ClipResult(norm, coefficient=grads.coefficient())

    def _excluded(self, grads: Gradients) -> list[bool]:
        """Which tensors are left out."""
        require_matches("transposed", self.transposed, grads.all_names)
        if self.exclude is not None:
            require_matches("exclude", self.exclude, grads.all_names)
            return [matches(name, self.exclude) for name in grads.names]
        last = _module(grads.all_names[-1])
        if all(_module(name) == last for name in grads.all_names):
            raise ValueError("exclude: 'last' leaves out everything, since there is one module; use exclude=[]")
        return [_module(name) == last for name in grads.names]


def _module(name: str) -> str:
    """The module that a parameter belongs to."""
    return name.rpartition(".")[0]


def _unit_norms(tensor: Tensor, unit: int, dtype: torch.dtype | None = None) -> Tensor:
    """L2 norms over all dimensions but `unit` (over everything for vectors), with those dimensions kept."""
    dims = [dim for dim in range(tensor.ndim) if dim != unit] if tensor.ndim > 1 else None
    dtype = dtype or torch.promote_types(tensor.dtype, torch.float32)
    return torch.linalg.vector_norm(tensor, dim=dims, keepdim=True, dtype=dtype)
