"""Means over seeds, with what a few seeds can say of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats


class Mean(NamedTuple):
    """A mean and its 95% interval."""

    value: float
    half_width: float
    """By Student's t; NaN for a single value."""
    num_values: int
    num_missing: int = 0

    def __str__(self) -> str:
        if not self.num_values:
            return "missing"
        interval = f" +- {self.half_width:.2f}" if self.num_values > 1 else ""
        incomplete = f" ({self.num_values} of {self.num_values + self.num_missing})" if self.num_missing else ""
        return f"{self.value:.2f}{interval}{incomplete}"


def mean(values: Sequence[float]) -> Mean:
    """The mean of independent values and its 95% interval; NaN stands for a value that is missing."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    count = len(known)
    half_width = float("nan")
    if count > 1:
        half_width = float(scipy.stats.t.ppf(0.975, count - 1) * np.std(known, ddof=1) / count**0.5)
    return Mean(float(np.mean(known)) if count else float("nan"), half_width, count, len(values) - count)
