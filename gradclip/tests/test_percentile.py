import numpy as np
import pytest
import torch

from gradclip.percentile import StreamingPercentile

PERCENTILES = (0, 1, 10, 25, 33.3, 50, 90, 99.9, 100)
STREAMS = {
    "heavy_tailed": lambda random, size: random.lognormal(0, 2, size),
    "constant": lambda random, size: np.full(size, 0.1),
    "decreasing": lambda random, size: np.geomspace(1, 1e-6, size),
    "repeated": lambda random, size: random.integers(1, 5, size) / 3,
}


def stream(kind: str, size: int) -> np.ndarray:
    return STREAMS[kind](np.random.default_rng(0), size)


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 1, 2, 100, 10_000])
@pytest.mark.parametrize("kind", STREAMS)
def test_equals_numpy_to_the_last_bit(kind, window):
    """At every step to 2,000, and at 500 sampled ones to 100,000."""
    values = stream(kind, 100_000)
    sampled = set(range(1, 2001)) | set(np.random.default_rng(1).integers(2001, 100_001, 500).tolist())
    history = StreamingPercentile(window)
    for count, value in enumerate(values.tolist(), start=1):
        history.add(value)
        if count in sampled:
            counted = values[max(0, count - (window or count)) : count]
            assert [history.percentile(p) for p in PERCENTILES] == np.percentile(counted, PERCENTILES).tolist()


@pytest.mark.parametrize("window", [None, 700])
def test_p_may_change_at_every_reading(window):
    values, random = stream("heavy_tailed", 6_000), np.random.default_rng(2)
    history = StreamingPercentile(window)
    for count, value in enumerate(values.tolist(), start=1):
        history.add(value)
        p = random.uniform(0, 100)
        if count % 5 == 0:
            assert history.percentile(p) == np.percentile(values[max(0, count - (window or count)) : count], p)


def test_blocks_that_empty_and_fill_again():
    """A level that jumps up and down empties every block of a window in turn."""
    random = np.random.default_rng(3)
    values = np.concatenate([random.uniform(0, 1, 3000) + level for level in (5, 1, 9, 1, 5, 0, 9)])
    history = StreamingPercentile(2500)
    for count, value in enumerate(values.tolist(), start=1):
        history.add(value)
        if count % 97 == 0:
            counted = values[max(0, count - 2500) : count]
            assert [history.percentile(p) for p in PERCENTILES] == np.percentile(counted, PERCENTILES).tolist()


def test_keeps_values_in_their_order():
    history = StreamingPercentile(values=[3.0, 1.0])
    history.add(2.0)
    assert list(history.values) == [3.0, 1.0, 2.0]
    assert len(history) == 3
    assert history.percentile(50) == 2.0


def test_a_window_keeps_the_last_values_in_their_order():
    history = StreamingPercentile(3, values=[9.0, 3.0, 1.0, 2.0])
    assert list(history.values) == [3.0, 1.0, 2.0]
    history.add(7.0)
    assert list(history.values) == [1.0, 2.0, 7.0]
    assert history.percentile(100) == 7.0 and history.percentile(50) == 2.0


@pytest.mark.parametrize("window", [None, 5000, 20_000])
@pytest.mark.parametrize("kind", STREAMS)
def test_goes_on_from_a_tensor(kind, window):
    values = stream(kind, 10_003)
    given = torch.from_numpy(values[:10_000].copy())
    history = StreamingPercentile(window, given)
    given.fill_(7.0)
    assert np.array_equal(history.tensor().numpy(), values[:10_000][-(window or 10_000) :])
    for count in (10_001, 10_002, 10_003):
        history.add(values[count - 1])
        counted = values[:count][-(window or count) :]
        assert [history.percentile(p) for p in PERCENTILES] == np.percentile(counted, PERCENTILES).tolist()
        saved = history.tensor()
        assert np.array_equal(saved.numpy(), counted)  # in their order of arrival, also from a ring
        saved.fill_(7.0)


def test_the_tensor_of_no_values_is_empty():
    history = StreamingPercentile(3, torch.empty(0))
    assert history.tensor().shape == (0,)
    history.add(2.0)
    assert history.tensor().tolist() == [2.0] and history.percentile(50) == 2.0
