"""The gradients of one step: measured in one fused pass, changed in place."""

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gradclip.tensors import Kind, alike, is_dtensor, multiply_, reduced, scale_alike_, tensor_norms

Parameters = Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]
"""A tensor, tensors (`model.parameters()`), or pairs of name and tensor (`model.named_parameters()`)."""

SMALLEST_SAFE_NORM = 1e-15
"""Below it, squares of float32 entries lose bits (they are subnormal below 1e-19 squared)."""
WRAPPERS = re.compile(r"^(_orig_mod\.)?module\.|\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What DDP, torch.compile and others put before parameters' names; a memory that is kept by name shouldn't see it."""


class Gradients:
    """The gradients of one step, their norms, and what was done to them.

    Parameters without a gradient are left out, and one that is listed twice counts once. Sparse gradients are coalesced
    and stand for their values; of complex ones, real and imaginary parts count as entries; of DTensors (FSDP2), the
    norms are of the whole tensors and the entries those of this process.

    Args:
        parameters: tensors or (name, tensor) pairs.
        grad_scale: the gradients are larger by this factor, as under `torch.amp.GradScaler`; a tensor.
        with_max: measure the largest magnitudes too, in the same synchronisation.
        per_tensor: measure each norm exactly, also those that are tiny beside the others.

    Raises:
        ValueError: there are no parameters, none has a gradient, two have one name, or a gradient is of a layout that
            can't be scaled.
        TypeError: an item is neither a tensor nor a (name, tensor) pair.
    """

    def __init__(
        self,
        parameters: Parameters,
        grad_scale: Tensor | None = None,
        with_max: bool = False,
        per_tensor: bool = False,
    ) -> None:
        items = [parameters] if isinstance(parameters, Tensor) else as_list(parameters)
        if not items:
            raise ValueError("parameters: got none (a generator such as model.parameters() is exhausted after one use)")
        self.named = isinstance(items[0], tuple)
        self._special: str | None = None  # the first sparse, complex or distributed one
        self._add_all(items)
        if not self.tensors:
            raise ValueError(f"parameters: none of the {len(items)} has a gradient; call loss.backward() first")
        self._with_max = with_max
        self._per_tensor = per_tensor
        self.factor: float | Tensor = 1.0
        """What `flush` still has to multiply all tensors by."""
        self.grad_scale = grad_scale
        """What all tensors are too large by; None from `entries` on."""
        self.loss: Tensor | None = None
        """What they are the gradients of, where it was handed over."""
        self._norms: list[float] | None = None
        self._max: list[float] = []
        self._initial_norm: float | None = None

    def _add_all(self, items: list[Any]) -> None:
        # Each tensor takes as little time as can be here: it takes as long as clipping a small one.
        names, parameters = _split(items)
        # All are held before one is replaced: the identity of one that is freed could be another's.
        grads = [parameter.grad for parameter in parameters]
        places: dict[int, int] = {}
        for index, grad in enumerate(grads):
            if grad is not None and grad.numel() > 0:
                first = places.setdefault(id(grad), index)
                if parameters[first] is not parameters[index] and parameters[index].grad is grad:
                    # Put there by hand; it belongs to both, but would be measured and scaled once.
                    parameters[index].grad = grads[index] = own = grad.clone()
                    places[id(own)] = index
        for name, parameter in zip(names, parameters, strict=True):
            if getattr(parameter, "_fsdp_flattened", False):
                raise ValueError(
                    f"parameters: {name} is sharded by FullyShardedDataParallel, which doesn't say so in its gradient,"
                    " so the norm would be this process's own; shard by torch.distributed.fsdp.fully_shard instead"
                )
        self.all_names, self.all_parameters = list(names), parameters
        """Those without a gradient among them."""
        self.names = [names[index] for index in places.values()]
        self.parameters = [parameters[index] for index in places.values()]
        sources = [grad for grad in (grads[index] for index in places.values()) if grad is not None]
        groups, odd = alike(sources), []
        for kind, group in groups.items():
            plain = _is_plain(kind)
            odd += [index for index in group if not (plain and sources[index].is_contiguous())]
        for index in sorted(odd):
            sources[index] = self._writable(self.names[index], self.parameters[index], sources[index])
        self._sources = sources  # what is measured: dense and real
        self._groups = list((alike(sources) if odd else groups).values())  # of those that fused operations take
        self.tensors = [source.to_local() if is_dtensor(source) else source for source in sources]
        """What is changed in place: as measured, but of this process."""

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
            if any(placement.is_partial() for placement in grad.placements):  # each process holds a summand
                parameter.grad = grad = reduced(grad)
        if grad.is_complex():
            self._special = self._special or f"{name}'s is complex"
            if grad.is_conj():
                parameter.grad = grad = grad.resolve_conj()
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
            self._with_max, self._norms = True, None
        return self._max if self.norms else []

    def _measure(self) -> list[float]:
        values = [tensor_norms(self._sources, groups=self._groups)]
        if self._with_max:
            values.append(tensor_norms(self._sources, math.inf, groups=self._groups))
        flat = torch.cat(values)
        numbers = (flat if self.grad_scale is None else flat / self.grad_scale).tolist()
        norms, self._max = numbers[: len(self.tensors)], numbers[len(self.tensors) :]
        if self._per_tensor or not SMALLEST_SAFE_NORM <= math.hypot(*norms) < math.inf:
            self._measure_again(norms)
        return norms

    def _measure_again(self, norms: list[float]) -> None:
        """In float64, those whose squares may have over- or underflown in float32; rarely, there are some."""
        unsafe = [index for index, norm in enumerate(norms) if not SMALLEST_SAFE_NORM <= norm < math.inf]
        if unsafe:
            exact = tensor_norms([self._sources[index] for index in unsafe], dtype=torch.float64)
            values = (exact if self.grad_scale is None else exact / self.grad_scale).tolist()
            for index, value in zip(unsafe, values, strict=True):
                norms[index] = value

    def device_norm(self) -> Tensor:
        """The L2 norm over all tensors as they are now, a float64 scalar; nobody waits for the device."""
        self.flush()
        total = torch.linalg.vector_norm(tensor_norms(self._sources, groups=self._groups), dtype=torch.float64)
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
            multiply_([tensor for tensor, _ in changed], [factor for _, factor in changed])
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
        if isinstance(factor, Tensor) or factor != 1.0:
            for group in self._groups:
                scale_alike_([self.tensors[index] for index in group], factor)

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
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"parameters: {twice!r} is the name of two of them; {strategy} keeps its memory by name")

    def require_parameters(self, strategy: str) -> None:
        """Raises ValueError where the gradients came without parameters."""
        if not self.all_parameters:
            raise ValueError(
                f"gradients: {strategy} compares them with their parameters; put them into .grad and call"
                " clip_(model.named_parameters())"
            )

    def require_plain(self, strategy: str) -> None:
        """Raises ValueError where a gradient is sparse, complex or distributed."""
        if self._special is not None:
            raise ValueError(f"parameters: {strategy} needs dense, real gradients on one process, but {self._special}")


def _is_plain(kind: Kind) -> bool:
    """Whether gradients can be measured and written as they are, if they are contiguous."""
    layout, dtype, _, *others = kind
    return layout is torch.strided and not dtype.is_complex and not others


def _split(items: list[Any]) -> tuple[Sequence[str], list[Tensor]]:
    """Names and parameters."""
    if all(isinstance(item, Tensor) for item in items):
        return _numbered(len(items)), items
    for item in items:
        is_pair = isinstance(item, tuple) and len(item) == 2
        if not (is_pair and isinstance(item[0], str) and isinstance(item[1], Tensor)):
            raise TypeError(f"parameters: expected tensors or (name, tensor) pairs, got {type(item).__name__}")
    return [plain_name(name) for name, _ in items], [parameter for _, parameter in items]


@lru_cache(maxsize=8)
def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"parameter {position}" for position in range(count))


@lru_cache(maxsize=100_000)
def plain_name(name: str) -> str:
    """A parameter's name without what wrappers put into it."""
    return WRAPPERS.sub("", name)


def as_list(parameters: object) -> list[Any]:
    """Parameters as a list.

    Raises:
        TypeError: they can't be iterated over; a model is no list of parameters.
    """
    if isinstance(parameters, torch.nn.Module) or not isinstance(parameters, Iterable):
        name = type(parameters).__name__
        raise TypeError(f"parameters: expected model.parameters() or model.named_parameters(), got {name}")
    return list(parameters)
