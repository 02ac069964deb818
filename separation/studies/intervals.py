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

    def __str__(self) -> str:
        if self.num_values < 2:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} +- {self.half_width:.2f}"


def mean(values: Sequence[float]) -> Mean:
    """The mean of independent values, one at least, and its 95% interval."""
    count = len(values)
    if count < 2:
        return Mean(float(np.mean(values)), float("nan"), count)
    error = float(np.std(values, ddof=1)) / count**0.5
    return Mean(float(np.mean(values)), float(scipy.stats.t.ppf(0.975, count - 1)) * error, count)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, ties sharing their mean rank; NaN where all values of one are equal."""
    ranks = [scipy.stats.rankdata(values) for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
