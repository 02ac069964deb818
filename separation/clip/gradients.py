"""The gradients of one step: measured in one fused pass, changed in place."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Parameters = Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]
"""A tensor, tensors (`model.parameters()`), or pairs of name and tensor (`model.named_parameters()`)."""

SMALLEST_SAFE_NORM = 1e-15
"""Below it, squares of float32 entries lose bits (they are subnormal below 1e-19 squared)."""


class Gradients:
    """The gradients of one step, their norms, and what was done to them.

    Parameters without a gradient are left out, and one that is listed twice counts once. Sparse gradients are coalesced
    and stand for their values; of complex ones, real and imaginary parts count as entries; of DTensors (FSDP2), the
    norms are of the whole tensors and the entries those of this process.

    Args:
        parameters: tensors or (name, tensor) pairs.
        grad_scale: the gradients are larger by this factor, as under `torch.amp.GradScaler`; a tensor.

    Raises:
        ValueError: there are no parameters, none has a gradient, two have one name, or a gradient is of a layout that
            can't be scaled.
        TypeError: an item is neither a tensor nor a (name, tensor) pair.
    """

    def __init__(self, parameters: Parameters, grad_scale: Tensor | None = None) -> None:
        items = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if not items:
            raise ValueError("parameters: got none (a generator such as model.parameters() is exhausted after one use)")
        self.named = isinstance(items[0], tuple)
        self.names: list[str] = []
        self.parameters: list[Tensor] = []
        self.tensors: list[Tensor] = []  # what is changed in place: dense, real, of this process
        self._sources: list[Tensor] = []  # what is measured: as `tensors`, but DTensors whole
        self._special: str | None = None  # the first sparse, complex or distributed one
        self._add_all(items)
        if not self.tensors:
            raise ValueError(f"parameters: none of the {len(items)} has a gradient; call loss.backward() first")
        self.with_max = False
        """Measure the largest magnitudes too, in the same synchronisation; to be set before the first measurement."""
        self.factor: float | Tensor = 1.0
        """What `flush` still has to multiply all tensors by."""
        self.grad_scale = grad_scale
        """What all tensors are too large by; None from `entries` on."""
        self._norms: list[float] | None = None
        self._max: list[float] = []
        self._initial_norm: float | None = None

    def _add_all(self, items: list[Tensor] | list[tuple[str, Tensor]]) -> None:
        seen = set()
        for position, item in enumerate(items):
            name, parameter = item if isinstance(item, tuple) and len(item) == 2 else (f"parameter {position}", item)
            if not isinstance(parameter, Tensor) or not isinstance(name, str):
                raise TypeError(f"parameters: expected tensors or (name, tensor) pairs, got {type(item).__name__}")
            grad = parameter.grad
            if grad is None or grad.numel() == 0 or id(grad) in seen:
                continue
            seen.add(id(grad))
            source = self._writable(name, parameter, grad)
            self.names.append(name)
            self.parameters.append(parameter)
            self._sources.append(source)
            self.tensors.append(source.to_local() if is_dtensor(source) else source)
        if self.named and len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"parameters: {twice!r} is the name of two of them; states are kept by name")

    def _writable(self, name: str, parameter: Tensor, grad: Tensor) -> Tensor:
        """A dense real tensor that shares the gradient's memory."""
        if grad.layout == torch.sparse_coo:
            self._special = self._special or f"{name}'s is sparse"
            if not grad.is_coalesced():
                parameter.grad = grad = grad.coalesce()
            grad = grad._values()
        elif grad.layout != torch.strided:
            raise ValueError(f"parameters: the gradient of {name} has the layout {grad.layout}; expected dense or COO")
        elif 0 in grad.stride() and not is_dtensor(grad):  # an expanded tensor can't be written to
            parameter.grad = grad = grad.contiguous()
        if is_dtensor(grad):
            self._special = self._special or f"{name}'s is distributed"
        if grad.is_complex():
            self._special = self._special or f"{name}'s is complex"
            grad = torch.view_as_real(grad)
        return grad

    @property
    def norms(self) -> list[float]:
        """The L2 norm of each tensor as it is now. The first reading makes the host wait for the device, once."""
        if self._norms is None:
            self.flush()
            self._norms = self._measure()
            if self._initial_norm is None:
                self._initial_norm = math.hypot(*self._norms)
        return self._norms

    @property
    def norm(self) -> float:
        """The L2 norm over all tensors as they are now."""
        return math.hypot(*self.norms)

    @property
    def max_abs(self) -> list[float]:
        """The largest magnitude in each tensor as it is now."""
        if not self._max:
            self.with_max, self._norms = True, None
        return self._max if self.norms else []

    def _measure(self) -> list[float]:
        values = [tensor_norms(self._sources)]
        if self.with_max:
            values.append(tensor_norms(self._sources, math.inf))
        flat = torch.cat(values)
        numbers = (flat if self.grad_scale is None else flat / self.grad_scale).tolist()
        norms, self._max = numbers[: len(self.tensors)], numbers[len(self.tensors) :]
        total = math.hypot(*norms)
        if math.isfinite(total) and total >= SMALLEST_SAFE_NORM:
            return norms
        # float32 squares may have over- or underflown: measured again, and rarely, in float64.
        exact = tensor_norms(self._sources, dtype=torch.float64)
        return (exact if self.grad_scale is None else exact / self.grad_scale).tolist()

    def device_norm(self) -> Tensor:
        """The L2 norm over all tensors as they are now, a float64 scalar; nobody waits for the device."""
        self.flush()
        total = torch.linalg.vector_norm(tensor_norms(self._sources), dtype=torch.float64)
        return total if self.grad_scale is None else total / self.grad_scale

    def scale_(self, factor: float | Tensor) -> None:
        """Multiplies all tensors by one factor: at the next `flush`, or in the optimizer's step."""
        if isinstance(factor, Tensor):
            self.flush()
            self._norms, self._max = None, []
            self.factor = factor
        elif factor != 1.0:
            self._norms = [norm * factor for norm in self.norms]
            self._max = [largest * factor for largest in self._max]
            self.factor = self.factor * factor

    def scale_each_(self, factors: list[float]) -> None:
        """Multiplies each tensor by its own factor; those with the factor 1 are not touched."""
        self.flush()
        changed = [(tensor, factor) for tensor, factor in zip(self.tensors, factors, strict=True) if factor != 1.0]
        if changed:
            torch._foreach_mul_([tensor for tensor, _ in changed], [factor for _, factor in changed])
            self._norms = [norm * factor for norm, factor in zip(self.norms, factors, strict=True)]
            self._max = []

    def entries(self) -> list[Tensor]:
        """The tensors, to be changed entry by entry: multiplied and unscaled. Their norms are unknown from now on."""
        self.flush()
        if self.grad_scale is not None:
            self.factor, self.grad_scale = self.grad_scale.double().reciprocal(), None
            self.flush()
        self._norms, self._max = None, []
        return self.tensors

    def flush(self) -> None:
        """Multiplies by what `scale_` has left open."""
        factor, self.factor = self.factor, 1.0
        if isinstance(factor, Tensor):
            for group in _alike(self.tensors).values():
                tensors = [self.tensors[index] for index in group]
                torch._foreach_mul_(tensors, factor.to(tensors[0].device))
        elif factor != 1.0:
            torch._foreach_mul_(self.tensors, factor)

    def coefficient(self) -> float | Tensor:
        """The norm now, divided by the norm at first: what all that was done multiplied it by.

        A 0-d tensor where it isn't known yet and reading it would make the host wait for a device.
        """
        before = self._initial_norm
        if not before:
            return 1.0
        if self._norms is None and self.tensors[0].device.type != "cpu":
            return self.device_norm() / before
        return self.norm / before

    def nonfinite(self) -> list[str]:
        """Names of the tensors that hold NaN or infinity."""
        return [name for name, norm in zip(self.names, self.norms, strict=True) if not math.isfinite(norm)]

    def require_names(self, strategy: str) -> None:
        """Raises ValueError unless the parameters came with names."""
        if not self.named:
            raise ValueError(
                f"parameters: {strategy} works tensor by tensor and needs names; pass model.named_parameters()"
            )

    def require_plain(self, strategy: str) -> None:
        """Raises ValueError where a gradient is sparse, complex or distributed."""
        if self._special is not None:
            raise ValueError(f"parameters: {strategy} needs dense, real gradients on one process, but {self._special}")


def tensor_norms(tensors: list[Tensor], order: float = 2, dtype: torch.dtype | None = None) -> Tensor:
    """The norm of each tensor, in one fused pass for all of one kind.

    Half-precision tensors are accumulated in float32: in float16 a norm above 65,504 would be infinite.

    Returns:
        Shape (number of tensors,), on the first one's device.
    """
    groups = _alike(tensors)
    device = tensors[0].device
    parts = []
    for group in groups.values():
        members = [tensors[index] for index in group]
        half = members[0].dtype in (torch.float16, torch.bfloat16)
        part = torch.stack(torch._foreach_norm(members, order, dtype=dtype or (torch.float32 if half else None)))
        parts.append(part.full_tensor() if is_dtensor(part) else part)
    if len(parts) == 1:
        return parts[0]
    norms = torch.cat([part.to(device, torch.float64) for part in parts])
    places = torch.tensor([index for group in groups.values() for index in group], device=device)
    return torch.empty_like(norms).index_copy_(0, places, norms)


def _alike(tensors: list[Tensor]) -> dict[object, list[int]]:
    """Positions of the tensors of each device, data type and class: the fused operations take one kind at a time."""
    groups: dict[object, list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.dtype, type(tensor)), []).append(index)
    return groups


def is_dtensor(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is spread over processes (`torch.distributed.tensor.DTensor`, whose import costs a second)."""
    return type(tensor) is not Tensor and hasattr(tensor, "full_tensor")
