"""Adaptive gradient clipping of normaliser-free networks (Brock et al., 2021)."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from separation.clip.checks import check_patterns, check_positive
from separation.clip.clipper import Clipper, ClipResult
from separation.clip.gradients import Gradients


class AGC(Clipper):
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

    def _clip(self, grads: Gradients) -> ClipResult:
        grads.require_names("AGC")
        grads.require_plain("AGC")
        norm = grads.norm
        last = grads.names[-1].rpartition(".")[0]
        for name, parameter, tensor in zip(grads.names, grads.parameters, grads.entries(), strict=True):
            is_last = name.rpartition(".")[0] == last
            if not (is_last if self.exclude is None else _matches(name, self.exclude)):
                unit = 1 if _matches(name, self.transposed) else 0
                limit = self.l * _unit_norms(parameter, unit).clamp(min=self.eps)
                # A unit below its limit is multiplied by exactly 1; one of zeros by min(1, inf).
                tensor.mul_((limit / _unit_norms(tensor, unit)).clamp(max=1.0).to(tensor.dtype))
        return ClipResult(norm, coefficient=grads.coefficient())


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _unit_norms(tensor: Tensor, unit: int) -> Tensor:
    """L2 norms over all dimensions but `unit` (over everything for vectors), with those dimensions kept."""
    dims = [dim for dim in range(tensor.ndim) if dim != unit] if tensor.ndim > 1 else None
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return torch.linalg.vector_norm(tensor, dim=dims, keepdim=True, dtype=dtype)
