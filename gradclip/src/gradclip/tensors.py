"""Fused operations on lists of tensors of any device, type and range."""

import math
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Kind = tuple[Any, ...]
"""Layout, data type and device; of a subclass also the class, of a DTensor its mesh and placements."""
SMALLEST_FACTOR = 1e-30
"""Factors below it, or above its reciprocal, come near the ends of float32's range."""
LARGEST_SAFE_NORM = 1e18
"""Above it, squares of float32 entries come near the end of its range."""


def scale_alike_(tensors: list[Tensor], factor: float | Tensor) -> None:
    """Multiplies tensors of one kind (see `alike`) by one factor, in place.

    It divides by the factor's reciprocal, as a fused optimizer does with its `grad_scale`: so a clipper takes the same
    steps to the last bit whether it multiplies the gradients or leaves that to the optimizer.
    """
    device = tensors[0].device
    if isinstance(factor, Tensor):
        torch._foreach_div_(tensors, factor.reciprocal().to(device))
    elif not _is_in_range(factor) or _is_half_on_cpu(tensors[0]):
        multiply_(tensors, [factor] * len(tensors))
    elif device.type == "cpu":  # which would make a tensor of the number for each of them
        torch._foreach_div_(tensors, torch.tensor(1.0 / factor, dtype=tensors[0].dtype))
    else:
        torch._foreach_div_(tensors, 1.0 / factor)


def multiply_(tensors: list[Tensor], factors: list[float]) -> None:
    """Multiplies each tensor by its factor, in place; a factor may lie beyond the range of the tensor's type."""
    in_range = all(map(_is_in_range, factors))
    if in_range and not any(map(_is_half_on_cpu, tensors)):
        torch._foreach_mul_(tensors, factors)
        return
    for tensor, factor in zip(tensors, factors, strict=True):
        steps = [factor] if in_range else [math.sqrt(factor)] * 2
        # The CPU would round the factor to a half-precision tensor's type before it multiplies.
        wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        for step in steps:
            wide = wide * step
        tensor.copy_(wide)


@torch.inference_mode(False)  # a memory outlives the mode it was made in
def zeros_like(tensor: Tensor) -> Tensor:
    """Zeros for a strategy's memory, in float32 at least."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return torch.zeros(tensor.shape, dtype=dtype, device=tensor.device)


def remembered(memory: dict[str, Tensor], name: str, like: Tensor) -> Tensor | None:
    """A memory's tensor for a parameter or gradient, on the same device; None before its first step.

    Raises:
        ValueError: it has another shape, since it was restored from another model's state.
    """
    value = memory.get(name)
    if value is None:
        return None
    if value.shape != like.shape:
        raise ValueError(f"state[{name!r}]: has shape {tuple(value.shape)}, the gradient {tuple(like.shape)}")
    if value.device != like.device:  # restored from a file
        value = memory[name] = value.to(like.device)
    return value


def wide_dtype(norm: float) -> torch.dtype | None:
    """What to take norms in that are at most this one: float64 where float32 can't hold the squares."""
    return torch.float64 if norm > LARGEST_SAFE_NORM else None


def _is_in_range(factor: float) -> bool:
    return SMALLEST_FACTOR < factor < 1 / SMALLEST_FACTOR


def _is_half_on_cpu(tensor: Tensor) -> bool:
    return _is_half(tensor) and tensor.device.type == "cpu"


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)


def tensor_norms(
    tensors: list[Tensor], order: float = 2, dtype: torch.dtype | None = None, groups: list[list[int]] | None = None
) -> Tensor:
    """The norm of each tensor, in one fused pass for all of one kind.

    Half-precision tensors are accumulated in float32: in float16 a norm above 65,504 would be infinite.

    Args:
        tensors: dense and real.
        order: 2 or infinity.
        dtype: what to accumulate in.
        groups: positions of those that are alike, where they are known.

    Returns:
        Shape (number of tensors,), on the first one's device.
    """
    groups = list(alike(tensors).values()) if groups is None else groups
    device = tensors[0].device
    parts = []
    for group in groups:
        members = [tensors[index] for index in group]
        precision = dtype or (torch.float32 if _is_half(members[0]) else None)
        part = _largest(members, precision) if order == math.inf else _stacked_norms(members, order, precision)
        parts.append(part.full_tensor() if is_dtensor(part) else part)
    if len(parts) == 1:
        return parts[0]
    norms = torch.cat([part.to(device, torch.float64) for part in parts])
    places = torch.tensor([index for group in groups for index in group], device=device)
    return torch.empty_like(norms).index_copy_(0, places, norms)


def _stacked_norms(tensors: list[Tensor], order: float, dtype: torch.dtype | None) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors, order, dtype=dtype))


def _largest(tensors: list[Tensor], dtype: torch.dtype | None) -> Tensor:
    """The largest magnitude in each; 0 where there is nothing, as in a process whose share of a DTensor is empty."""
    local = [tensor.to_local() if is_dtensor(tensor) else tensor for tensor in tensors]
    largest = _stacked_norms([each if each.numel() > 0 else each.new_zeros(1) for each in local], math.inf, dtype)
    if not is_dtensor(tensors[0]):
        return largest
    from torch.distributed.tensor import DTensor, Partial

    mesh = tensors[0].device_mesh
    return DTensor.from_local(largest, mesh, [Partial("max")] * mesh.ndim, run_check=False)


def alike(tensors: list[Tensor]) -> dict[Kind, list[int]]:
    """Positions of the tensors of each kind: the fused operations take one kind at a time.

    DTensors also have to lie on one mesh, and in the same way.
    """
    groups: dict[Kind, list[int]] = {}
    for index, tensor in enumerate(tensors):
        kind: Kind = (tensor.layout, tensor.dtype, tensor.device)
        if type(tensor) is not Tensor:
            kind = (*kind, type(tensor), *((tensor.device_mesh, tensor.placements) if is_dtensor(tensor) else ()))
        groups.setdefault(kind, []).append(index)
    return groups


def is_dtensor(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is spread over processes (`torch.distributed.tensor.DTensor`, whose import costs a second)."""
    return type(tensor) is not Tensor and hasattr(tensor, "full_tensor")


def reduced(tensor: "DTensor") -> "DTensor":
    """The sum where each process holds a summand."""
    from torch.distributed.tensor import Replicate

    placements = [Replicate() if placement.is_partial() else placement for placement in tensor.placements]
    return tensor.redistribute(placements=placements)
