"""A percentile of a stream of values, equal to NumPy's to the last bit."""

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

LARGEST_BLOCK = 1024
T = TypeVar("T", float, Tensor)


class StreamingPercentile:
    """The p-th percentile of all values added so far, or of the last `window`, as `np.percentile` computes it.

    The values lie sorted in blocks of at most 1,024. Adding one costs two binary searches and a move within one block;
    a cursor remembers the block that the last percentile was read from, which is close to where the next one lies. So
    the cost hardly grows with the number of values, and p may change from one reading to the next. Those to begin with
    are sorted when that is first needed: a million takes a sixth of a second.

    Args:
        window: how many values count, >= 1; None: all.
        values: finite values to begin with, in their order; fastest as a tensor.
    """

    def __init__(self, window: int | None = None, values: Iterable[float] | Tensor = ()) -> None:
        self._window = window
        arrived = _as_array(values) if isinstance(values, Tensor) else array("d", values)
        self._arrived = arrived if window is None else arrived[-window:]  # in order; a full window is a ring
        self._oldest = 0
        self._blocks: list[array[float]] = []
        self._lasts: list[float] = []
        self._is_sorted = not self._arrived
        self._cursor = 0
        self._rank = 0  # of the first value in the cursor's block

    def __len__(self) -> int:
        return len(self._arrived)

    @property
    def values(self) -> "array[float]":
        """The values that count, in their order of arrival."""
        return self._arrived[self._oldest :] + self._arrived[: self._oldest]

    def tensor(self) -> Tensor:
        """As `values`, in a float64 tensor of its own memory."""
        if not self._arrived:
            return torch.empty(0, dtype=torch.float64)
        arrived = torch.frombuffer(self._arrived, dtype=torch.float64)
        return torch.cat([arrived[self._oldest :], arrived[: self._oldest]])

    def add(self, value: float) -> None:
        """Adds one finite value; with a full window, the oldest one goes."""
        self._sort()
        if len(self._arrived) == self._window:
            self._remove(self._arrived[self._oldest])
            self._arrived[self._oldest] = value
            self._oldest = (self._oldest + 1) % self._window
        else:
            self._arrived.append(value)
        self._insert(value)

    def percentile(self, p: float) -> float:
        """The p-th percentile, p in [0, 100], with linear interpolation; at least one value must have been added."""
        self._sort()
        position = (len(self._arrived) - 1) * (p / 100)
        index = math.floor(position)
        fraction = position - index
        low = self._at(index)
        if fraction == 0:
            return low
        return interpolate(low, self._at(index + 1), fraction)

    def around_next(self, p: float) -> tuple[float, float, float, float]:
        """Where the p-th percentile will be once another value x has been added.

        Returns:
            below, middle, above, fraction: it will be at this fraction of the way from clamp(x, below, middle) to
            clamp(x, middle, above).
        """
        self._sort()
        is_full = len(self._arrived) == self._window
        staying = len(self._arrived) - is_full
        position = staying * (p / 100)
        index = math.floor(position)

        def value_at(rank: int) -> float:  # of those that stay
            if not 0 <= rank < staying:
                return -math.inf if rank < 0 else math.inf
            value = self._at(rank)
            return self._at(rank + 1) if is_full and value >= self._arrived[self._oldest] else value

        return value_at(index - 1), value_at(index), value_at(index + 1), position - index

    def _sort(self) -> None:
        """Makes the blocks of the values to begin with."""
        if self._is_sorted:
            return
        ordered = _as_array(torch.frombuffer(self._arrived, dtype=torch.float64).sort().values)
        half = LARGEST_BLOCK // 2
        self._blocks = [ordered[first : first + half] for first in range(0, len(ordered), half)]
        self._lasts = [block[-1] for block in self._blocks]
        self._is_sorted = True

    def _at(self, rank: int) -> float:
        """The value at this 0-based rank."""
        while rank < self._rank:
            self._cursor -= 1
            self._rank -= len(self._blocks[self._cursor])
        while rank >= self._rank + len(self._blocks[self._cursor]):
            self._rank += len(self._blocks[self._cursor])
            self._cursor += 1
        return self._blocks[self._cursor][rank - self._rank]

    def _insert(self, value: float) -> None:
        if not self._blocks:
            self._blocks, self._lasts = [array("d", [value])], [value]
            return
        index = min(bisect_left(self._lasts, value), len(self._blocks) - 1)
        block = self._blocks[index]
        insort(block, value)
        self._lasts[index] = block[-1]
        self._rank += index < self._cursor
        if len(block) > LARGEST_BLOCK:
            middle = len(block) // 2
            self._blocks[index : index + 1] = [block[:middle], block[middle:]]
            self._lasts[index : index + 1] = [block[middle - 1], block[-1]]
            self._cursor += index < self._cursor

    def _remove(self, value: float) -> None:
        index = bisect_left(self._lasts, value)
        block = self._blocks[index]
        block.pop(bisect_left(block, value))
        self._rank -= index < self._cursor
        if block:
            self._lasts[index] = block[-1]
            return
        del self._blocks[index], self._lasts[index]
        self._cursor -= index < self._cursor
        if self._cursor == len(self._blocks):  # it stood on the last block, which is gone
            self._cursor = self._rank = 0


def interpolate(low: T, high: T, fraction: float) -> T:
    """Between two values as NumPy does it, from the nearer end: a one-sided formula differs in the last bit."""
    if fraction >= 0.5:
        return high - (high - low) * (1 - fraction)
    return low + (high - low) * fraction


def _as_array(values: Tensor) -> "array[float]":
    numbers = array("d", bytes(8 * len(values)))
    if numbers:
        torch.frombuffer(numbers, dtype=torch.float64).copy_(values)
    return numbers
