import math

import pytest

from separation.studies.intervals import mean


def test_the_interval_is_students():
    """Of 1, 2, 6: mean 3, standard error sqrt(7 / 3), t(0.975, 2) = 4.303."""
    value = mean([1.0, 2.0, 6.0])
    assert value.value == 3.0 and value.num_values == 3
    assert value.half_width == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-6)
    assert str(mean([1.0, 1.0])) == "1.00 +- 0.00" and str(mean([2.5])) == "2.50"


def test_what_is_missing_is_counted():
    value = mean([1.0, math.nan, 3.0])
    assert value.value == 2 and value.half_width == pytest.approx(12.7062, rel=1e-5)  # t(0.975, 1) times 1
    assert str(value) == "2.00 +- 12.71 (2 of 3)" and str(mean([2.5, math.nan])) == "2.50 (1 of 2)"
    assert str(mean([math.nan] * 3)) == "missing"
