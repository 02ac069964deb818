"""A percentile of a growing history, equal to NumPy's to the last bit."""

import math
from array import array
from bisect import insort
from collections.abc import Iterable


class GrowingPercentile:
    """The p-th percentile of every value added so far, with linear interpolation, as `np.percentile` computes it.

    Values are kept in their order of arrival (what a checkpoint stores) and sorted (what a percentile reads), so that
    adding one costs a binary search and a memory move instead of the sort that `np.percentile` does at every step.
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.values = array("d", values)
        self._sorted = array("d", sorted(self.values))

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: float) -> None:
        """Adds one finite value."""
        self.values.append(value)
        insort(self._sorted, value)

    def percentile(self, p: float) -> float:
        """The p-th percentile, p in [0, 100]; at least one value must have been added."""
        position = (len(self._sorted) - 1) * (p / 100)
        index = math.floor(position)
        fraction = position - index
        low = self._sorted[index]
        high = self._sorted[min(index + 1, len(self._sorted) - 1)]
        # NumPy interpolates from the nearer end; the one-sided formula differs in the last bit.
        if fraction >= 0.5:
            return high - (high - low) * (1 - fraction)
        return low + (high - low) * fraction
