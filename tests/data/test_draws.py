import numpy as np
import pytest

from separation.data.keyed_random import choose_distinct, permutation, stream, uniforms


def test_numbers_are_the_same_on_every_machine():
    # Computed once; a change here changes every published mixture list.
    assert uniforms(2, seed=1, stream=2, epoch=3, index=4).tolist() == pytest.approx(
        [0.829678828087, 0.422302400828], abs=1e-11
    )
    assert stream("mixtures", "train") == 515723808
    assert permutation(6, "a", 1) == [4, 2, 3, 0, 5, 1]


def test_every_key_changes_the_numbers():
    keys = [{}, {"seed": 1}, {"stream": 1}, {"epoch": 1}, {"index": 1}]
    draws = [uniforms(3, **{"seed": 0, "stream": 0, **key}).tolist() for key in keys]
    assert len({tuple(draw) for draw in draws}) == len(keys)


def test_uniforms_are_uniform():
    numbers = np.concatenate([uniforms(4, seed=0, stream=0, index=i) for i in range(2500)])
    assert numbers.min() >= 0 and numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0].std() < 50


def test_choices_are_distinct_and_cover_everything():
    pairs = {tuple(choose_distinct(3, pair)) for pair in np.random.default_rng(0).random((200, 2))}
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}
