import numpy as np
import pytest

from separation.clip.percentile import GrowingPercentile

PERCENTILES = (0, 1, 10, 25, 33.3, 50, 90, 99.9, 100)


@pytest.mark.parametrize("kind", ["heavy_tailed", "constant", "decreasing", "repeated"])
def test_every_step_equals_numpy_to_the_last_bit(kind):
    random = np.random.default_rng(0)
    values = {
        "heavy_tailed": random.lognormal(0, 2, 500),
        "constant": np.full(500, 0.1),
        "decreasing": np.geomspace(1, 1e-6, 500),
        "repeated": random.integers(1, 5, 500) / 3,
    }[kind].tolist()
    history = GrowingPercentile()
    for count, value in enumerate(values, start=1):
        history.add(value)
        for p in PERCENTILES:
            assert history.percentile(p) == np.percentile(values[:count], p)


def test_keeps_values_in_their_order():
    history = GrowingPercentile([3.0, 1.0])
    history.add(2.0)
    assert list(history.values) == [3.0, 1.0, 2.0]
    assert len(history) == 3
    assert history.percentile(50) == 2.0
