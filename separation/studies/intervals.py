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


class Interval(NamedTuple):
    """A mean and its 95% interval, which needn't be symmetric."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return self.text(2)

    def text(self, digits: int) -> str:
        """With so many digits after the point."""
        value, low, high = (f"{number:.{digits}f}" for number in self)
        return f"{value} [{low}, {high}]"


def bootstrap(values: np.ndarray) -> Interval:
    """The mean of independent values, shape (values,), and its interval by the percentiles of 10,000 resampled means,
    the same each time; too narrow where there are few."""
    settings = {"n_resamples": 10_000, "batch": 500, "method": "percentile"}
    found = scipy.stats.bootstrap((values,), np.mean, random_state=np.random.default_rng(0), **settings)
    return Interval(float(values.mean()), *map(float, found.confidence_interval))


def crossed_bootstrap(values: np.ndarray, draws: int = 10_000) -> Interval:
    """The mean of values that two kinds of chance have made, each row (seed) meeting each column (mixture).

    Rows and columns are drawn with replacement, independently of each other (A. B. Owen, "The pigeonhole bootstrap",
    2007): values of one row, or of one column, vary together, so drawing single values would claim too much.

    Args:
        values: shape (rows, columns); NaN in a column leaves that column out.
        draws: how many bootstrap means; they are the same each time.
    """
    known = values[:, ~np.isnan(values).any(axis=0)]
    random = np.random.default_rng(0)
    rows, columns = (random.multinomial(count, np.full(count, 1 / count), draws) / count for count in known.shape)
    means = np.einsum("dr,rc,dc->d", rows, known, columns, optimize=True)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(known.mean()), float(low), float(high))
