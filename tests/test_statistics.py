import math

import pytest
import scipy.stats

from separation.studies.intervals import mean, rank_correlation


def test_the_interval_is_students():
    """Of 1, 2, 6: mean 3, standard error sqrt(7 / 3), t(0.975, 2) = 4.303."""
    value = mean([1.0, 2.0, 6.0])
    assert value.value == 3.0 and value.num_values == 3
    assert value.half_width == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-6)
    assert str(mean([1.0, 1.0])) == "1.00 +- 0.00" and str(mean([2.5])) == "2.50"


def test_rank_correlation_is_spearmans():
    first, second = [3.0, 1.0, 2.0, 2.0, 9.0], [1.0, 0.5, 0.7, 0.6, 0.1]
    assert rank_correlation(first, second) == pytest.approx(scipy.stats.spearmanr(first, second).statistic)
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert math.isnan(rank_correlation([1, 2], [1, 1]))
