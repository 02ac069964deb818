"""Gradient norms in one fused pass."""

from collections.abc import Iterable

import torch
from torch import Tensor


def gradients(parameters: "Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]") -> list[Tensor]:
    """The gradients of tensors or (name, tensor) pairs; parameters without one are left out.

    Raises:
        ValueError: there are no parameters, or none of them has a gradient.
        TypeError: an item is neither a tensor nor a (name, tensor) pair.
    """
    items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not items:
        raise ValueError("parameters: got none (a generator such as model.parameters() is exhausted after one use)")
    # By identity: a parameter that is listed twice has one gradient, to be counted and scaled once.
    grads = list({id(tensor.grad): tensor.grad for tensor in map(_tensor, items) if tensor.grad is not None}.values())
    if not grads:
        raise ValueError(f"parameters: none of the {len(items)} has a gradient; call loss.backward() first")
    return grads


def _tensor(item: object) -> Tensor:
    tensor = item[1] if isinstance(item, tuple) and len(item) == 2 else item
    if not isinstance(tensor, Tensor):
        raise TypeError(f"parameters: expected tensors or (name, tensor) pairs, got {type(item).__name__}")
    return tensor


def total_norm(grads: list[Tensor]) -> Tensor:
    """L2 norm over all tensors, a scalar tensor on the first one's device.

    Half-precision gradients are accumulated in float32: in float16 a norm above 65,504 would be infinite.
    """
    half = any(grad.dtype in (torch.float16, torch.bfloat16) for grad in grads)
    norms = torch._foreach_norm(grads, 2, dtype=torch.float32 if half else None)
    device = norms[0].device
    return torch.linalg.vector_norm(torch.stack([norm.to(device) for norm in norms]))
