"""Clipping each sample's gradient by itself: what private training needs of a clipper."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradclip.gradients import SMALLEST_SAFE_NORM
from gradclip.plain_gradients import Tree, writable_leaves
from gradclip.tensors import SMALLEST_FACTOR, is_dtensor


class PerSampleResult(NamedTuple):
    """What was measured and done, sample by sample; on the host, in float64."""

    norms: Tensor
    """Shape (batch,): each sample's norm over all tensors, before clipping."""
    factors: Tensor
    """Shape (batch,): min(1, threshold / norm), and 0 for a sample whose gradient isn't finite."""
    threshold: float
    """The largest norm let through."""


class Samples:
    """A batch of gradients and each sample's norm over all tensors.

    Args:
        tree: tensors of shape (batch, ...).

    Raises:
        ValueError, TypeError: see `Clipper.clip_per_sample_`.
    """

    def __init__(self, tree: Tree) -> None:
        leaves = writable_leaves(tree)
        _check(leaves)
        self._tensors = [tensor for _, tensor in leaves]
        self.norms = _sample_norms(self._tensors, None)
        if not bool(((self.norms >= SMALLEST_SAFE_NORM) & self.norms.isfinite()).all()):
            self.norms = _sample_norms(self._tensors, torch.float64)  # squares may have over- or underflown in float32
        self.finite = self.norms.isfinite()

    def scale_to_(self, threshold: float) -> PerSampleResult:
        """Scales samples above the threshold down to it, and those that aren't finite to zero."""
        # A sample below the threshold is multiplied by exactly 1; one of zeros by min(1, inf).
        factors = torch.where(self.finite, (threshold / self.norms).clamp(max=1.0), 0.0)
        if bool((factors < 1).any()):
            for tensor in self._tensors:
                _multiply_(tensor, factors, self.finite)
        return PerSampleResult(self.norms, factors, threshold)


def _check(leaves: list[tuple[str, Tensor]]) -> None:
    first, batch = leaves[0][0], leaves[0][1].shape[:1]
    for name, tensor in leaves:
        if tensor.ndim == 0 or tensor.shape[:1] != batch:
            raise ValueError(
                f"gradients: expected a batch as first dimension of all, got {first!r} of shape"
                f" {tuple(leaves[0][1].shape)} and {name!r} of shape {tuple(tensor.shape)}"
            )
        if tensor.layout != torch.strided or tensor.is_complex() or is_dtensor(tensor):
            raise ValueError(f"gradients: expected dense, real ones on one process, but {name!r} isn't")


def _sample_norms(tensors: list[Tensor], dtype: torch.dtype | None) -> Tensor:
    """Each sample's norm; waits for the device once."""
    parts = [
        torch.linalg.vector_norm(
            tensor.unsqueeze(-1),
            dim=tuple(range(1, tensor.ndim + 1)),
            dtype=dtype or torch.promote_types(tensor.dtype, torch.float32),
        ).to(tensors[0].device)
        for tensor in tensors
    ]
    return torch.linalg.vector_norm(torch.stack(parts).cpu().double(), dim=0)


def _multiply_(tensor: Tensor, factors: Tensor, finite: Tensor) -> None:
    """Multiplies each sample by its factor; those that aren't finite become zero."""
    in_range = not bool(((factors > 0) & (factors < SMALLEST_FACTOR)).any())
    shape = (-1, *[1] * (tensor.ndim - 1))
    for step in [factors] if in_range else [factors.sqrt()] * 2:
        tensor.mul_(step.to(tensor.device, torch.promote_types(tensor.dtype, torch.float32)).view(shape))
    if not bool(finite.all()):
        tensor.masked_fill_(~finite.to(tensor.device).view(shape), 0)
