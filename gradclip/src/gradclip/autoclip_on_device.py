"""AutoClip without a single wait for the device."""

import math
from array import array
from typing import Any

import torch
from torch import Tensor

from gradclip.checks import check_count, check_percentile
from gradclip.device_clipper import DeviceClipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import WHOLE, State

DEFAULT_CAPACITY = 100_000


class AutoClipOnDevice(DeviceClipper):
    """AutoClip over the last `capacity` norms, computed where the gradients are: the host never waits for the device.

    The same thresholds as AutoClip(p, window=capacity), to float32 rounding of the norms. All results are 0-d tensors
    until they are read. A step can be captured in a CUDA graph after one step outside of it. Norms outside of 1e-15 to
    1e19 are beyond float32's squares and count as zero or infinite.

    Skipping a step costs a wait, unless a fused optimizer does it: attach the clipper to one. Without, `on_nonfinite`
    "zero" needs no wait, and "skip" asks the caller to read `should_step`.

    Args:
        p: percentile in [0, 100]; may be changed between steps.
        capacity: how many norms count, >= 1.
        on_nonfinite: "skip" or "zero", see `Clipper`.

    Reference: as AutoClip.
    State: the last `capacity` norms, 8 bytes each; twice that in device memory. Cost: one pass that reads the gradients
    and one that writes them, always; two passes over the history.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(self, p: float = 10.0, capacity: int = DEFAULT_CAPACITY, on_nonfinite: str = "skip") -> None:
        self._memory: _Memory | None = None
        super().__init__(on_nonfinite)
        self.capacity = check_count("capacity", capacity)
        self._p = check_percentile("p", p)

    @property
    def p(self) -> float:
        """The percentile, in [0, 100]."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = check_percentile("p", value)
        if self._memory is not None:
            self._memory.p.fill_(self._p / 100)

    @property
    def history(self) -> "array[float]":
        """The norms that count, in their order; reading them waits for the device."""
        return array("d", [] if self._memory is None else self._memory.values().tolist())

    def _apply(self, grads: Gradients) -> ClipResult:
        norm = grads.device_norm()
        if self._memory is None or self._memory.device != norm.device:
            self._move_to(norm.device)
        assert self._memory is not None
        finite = norm.isfinite()
        threshold = self._memory.observe(norm)
        coefficient = torch.where(finite & (norm > threshold), threshold / norm, 1.0)
        grads.scale_(coefficient)
        return self._result(grads, norm, threshold, coefficient, finite, should_step=finite)

    def _clip(self, grads: Gradients) -> ClipResult:
        return self._apply(grads)

    def _move_to(self, device: torch.device) -> None:
        values = [] if self._memory is None else self._memory.values().tolist()
        self._memory = _Memory(self.capacity, self.p, values, device)

    def _state(self) -> dict[str, Any]:
        values = torch.empty(0, dtype=torch.float64) if self._memory is None else self._memory.values()
        return {"capacity": self.capacity, "history": ((WHOLE, values),)}

    def _restore(self, state: State) -> None:
        state.expect("capacity", self.capacity)
        values = state.histories("history", grouped=False).get(WHOLE, [])
        device = torch.device("cpu") if self._memory is None else self._memory.device
        self._memory = _Memory(self.capacity, self.p, values, device)


class _Memory:
    """The history in tensors of a fixed size, updated in place: in order of arrival (a ring) and sorted.

    Free places of both hold infinity: as long as there are some, the value that makes place for a new one is infinity.
    """

    @torch.inference_mode(False)  # it outlives the mode it was made in
    def __init__(self, capacity: int, p: float, values: list[float], device: torch.device) -> None:
        def number(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.full((), value, dtype=dtype, device=device)

        self.device = device
        self.p = number(p / 100)
        self._places = torch.arange(capacity, device=device)
        self._ring = torch.full((capacity,), math.inf, dtype=torch.float64, device=device)
        kept = torch.tensor(values[-capacity:], dtype=torch.float64, device=device)
        self._ring[: len(kept)] = kept
        self._sorted = self._ring.sort().values
        self._count = number(len(kept), torch.int64)
        self._next = number(len(kept) % capacity, torch.int64)

    def observe(self, norm: Tensor) -> Tensor:
        """Records a norm unless it is zero or not finite; returns the threshold."""
        valid = norm.isfinite() & (norm > 0)
        oldest = self._ring.index_select(0, self._next.view(1))[0]
        exchanged = self._exchanged(oldest, norm)
        self._sorted.copy_(torch.where(valid, exchanged, self._sorted))
        self._ring.index_copy_(0, self._next.view(1), torch.where(valid, norm, oldest).view(1))
        self._count += valid & (self._count < len(self._ring))
        self._next.copy_((self._next + valid) % len(self._ring))
        return self._percentile()

    def _exchanged(self, old: Tensor, new: Tensor) -> Tensor:
        """The sorted history with one value less and another one more."""
        hole = torch.searchsorted(self._sorted, old)
        rest = torch.where(self._places < hole, self._sorted, torch.roll(self._sorted, -1))
        rest[-1:].fill_(math.inf)
        place = torch.searchsorted(rest, new)
        moved = torch.where(self._places < place, rest, torch.roll(rest, 1))
        return torch.where(self._places == place, new, moved)

    def _percentile(self) -> Tensor:
        """As `StreamingPercentile.percentile`; infinity where the history is empty."""
        last = (self._count - 1).clamp(min=0)
        position = last * self.p
        index = position.floor()
        fraction = position - index
        low = self._sorted.index_select(0, index.long().view(1))[0]
        high = self._sorted.index_select(0, torch.minimum(index.long() + 1, last).view(1))[0]
        lower, upper = low + (high - low) * fraction, high - (high - low) * (1 - fraction)
        return torch.where(self._count > 0, torch.where(fraction >= 0.5, upper, lower), math.inf)

    def values(self) -> Tensor:
        """The norms in their order, on the host."""
        count, following = int(self._count), int(self._next)
        ring = self._ring.cpu()
        return torch.cat([ring[following:], ring[:following]]) if count == len(ring) else ring[:count].clone()
