"""AutoClip's history where the norms are computed on a device: up to the last step on the host, or in a ring there."""

import math

import torch
from torch import Tensor

from gradclip.clipper import LARGEST_NORM
from gradclip.percentile import StreamingPercentile, interpolate


class HostHistory:
    """All norms but the last step's, on the host; the last one is on its way.

    With one value more, n, each order statistic of the history is one of its own two beside that rank, or n between
    them: clamp(n, H[k-1], H[k]). So a step sends the device three numbers, and waits only for the norm of the step
    before, which the device has left behind by then.

    Args:
        p: percentile in [0, 100]; `set_p` changes it.
        window: how many norms count; None: all.
    """

    def __init__(self, p: float, window: int | None) -> None:
        self._p = p
        self._window = window
        self._norms = StreamingPercentile(window)
        self._counts = [0, 0, 0]
        self._last: Tensor | None = None  # a norm that isn't in the history yet
        self._last_p = p
        self._buffer: Tensor | None = None  # what a GPU's norms are copied to
        self._arrival: torch.cuda.Event | None = None

    def set_p(self, p: float) -> None:
        """For the steps from now on."""
        self._p = p

    def load(self, values: Tensor) -> None:
        """Replaces the norms by these, in their order."""
        self._norms, self._last = StreamingPercentile(self._window, values), None

    @property
    def counts(self) -> list[int]:
        """Norms that weren't finite, those that were, and those above their threshold; can be written to."""
        self._record_last()
        return self._counts

    def values(self) -> Tensor:
        """The norms that count, in their order, on the host."""
        self._record_last()
        return self._norms.tensor()

    def observe(self, norm: Tensor, finite: Tensor) -> Tensor:
        """Records a norm unless it is zero or not finite; returns the threshold (NaN for a norm that isn't finite)."""
        if norm.is_cuda and torch.cuda.is_current_stream_capturing():
            raise ValueError(
                "capturable: a CUDA graph is being captured, in which the host can't count; make the clipper by"
                " AutoClipOnDevice(window=100000, capturable=True)"
            )
        self._record_last()
        below, middle, above, fraction = self._norms.around_next(self._p)
        usual = torch.where(finite, norm, math.nan)
        threshold = usual.clamp(below, middle)
        if fraction > 0:
            threshold = interpolate(threshold, usual.clamp(middle, above), fraction)
        without = self._norms.percentile(self._p) if len(self._norms) else math.inf
        self._send(norm)
        return torch.where(norm == 0, without, threshold)

    def _send(self, norm: Tensor) -> None:
        self._last, self._last_p = norm, self._p
        if norm.is_cuda:
            if self._buffer is None or self._arrival is None:
                with torch.inference_mode(False):  # it outlives the mode it was made in
                    self._buffer = torch.empty((), dtype=norm.dtype, pin_memory=True)
                self._arrival = torch.cuda.Event()
            self._last = self._buffer.copy_(norm, non_blocking=True)
            self._arrival.record(torch.cuda.current_stream(norm.device))

    def _record_last(self) -> None:
        if self._last is None:
            return
        if self._arrival is not None:
            self._arrival.synchronize()
        norm, self._last = float(self._last), None
        if not norm < LARGEST_NORM:
            self._counts[0] += 1
            return
        self._counts[1] += 1
        if norm > 0:
            self._norms.add(norm)
            self._counts[2] += self._norms.percentile(self._last_p) < norm

    def __getstate__(self) -> dict[str, object]:
        """An event can't be copied, nor pickled."""
        self._record_last()
        return {**self.__dict__, "_buffer": None, "_arrival": None}


class RingHistory:
    """The last norms in tensors of a fixed size, updated in place: in order of arrival (a ring) and sorted.

    Free places of both hold infinity: as long as there are some, the value that makes place for a new one is infinity.

    All tensors stay where they are, since a captured step knows only their addresses; the first step moves them to its
    device.

    Args:
        p: percentile in [0, 100]; `set_p` changes it.
        window: how many norms count.
    """

    @torch.inference_mode(False)  # it outlives the mode it was made in
    def __init__(self, p: float, window: int) -> None:
        self._p = torch.tensor(p / 100, dtype=torch.float64)
        self.counts = torch.zeros(3, dtype=torch.int64)
        """As `HostHistory.counts`."""
        self._places = torch.arange(window)
        self._ring = torch.full((window,), math.inf, dtype=torch.float64)
        self._sorted = self._ring.clone()
        self._count = torch.tensor(0)
        self._next = torch.tensor(0)

    def set_p(self, p: float) -> None:
        """For the steps from now on."""
        self._p.fill_(p / 100)

    def load(self, values: Tensor) -> None:
        """Replaces the norms by these, in their order."""
        kept = values[-len(self._ring) :]
        self._ring.fill_(math.inf)[: len(kept)] = kept
        self._sorted.copy_(self._ring.sort().values)
        self._count.fill_(len(kept))
        self._next.fill_(len(kept) % len(self._ring))

    @torch.inference_mode(False)
    def _move_to(self, device: torch.device) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value.to(device))

    def observe(self, norm: Tensor, finite: Tensor) -> Tensor:
        """As `HostHistory.observe`."""
        if norm.device != self._ring.device:
            self._move_to(norm.device)
        valid = finite & (norm > 0)
        oldest = self._ring.index_select(0, self._next.view(1))[0]
        exchanged = self._exchanged(oldest, norm)
        self._sorted.copy_(torch.where(valid, exchanged, self._sorted))
        self._ring.index_copy_(0, self._next.view(1), torch.where(valid, norm, oldest).view(1))
        self._count += valid & (self._count < len(self._ring))
        self._next.copy_((self._next + valid) % len(self._ring))
        threshold = torch.where(finite, self._percentile(), math.nan)
        self.counts += torch.stack([~finite, finite, norm > threshold])
        return threshold

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
        position = last * self._p
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
