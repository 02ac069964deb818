"""Random numbers that depend on their keys alone: the same on every machine, in every order, in any process.

Only the bit stream of the Philox counter generator is used, which NumPy keeps stable; its distributions may change.
"""

import zlib
from collections.abc import Sequence

import numpy as np


def stream(*keys: int | str) -> int:
    """A 32-bit number for a tuple of keys."""
    return zlib.crc32("\0".join(map(str, keys)).encode())


def uniforms(count: int, *, seed: int, stream: int, epoch: int = 0, index: int = 0) -> np.ndarray:
    """`count` float64 numbers in [0, 1), a function of the keys."""
    # As arrays: Python integers beyond 2**63 would go through float64.
    key, counter = np.array([seed, stream], np.uint64), np.array([0, index, epoch, 0], np.uint64)
    bits = np.random.Philox(key=key, counter=counter).random_raw(count)
    return (bits >> np.uint64(11)) * 2.0**-53


def choose_distinct(total: int, fractions: Sequence[float]) -> list[int]:
    """As many distinct numbers below `total` as there are `fractions` (uniform in [0, 1)): a partial shuffle."""
    pool = list(range(total))
    return [pool.pop(int(fraction * len(pool))) for fraction in fractions]


def permutation(count: int, *keys: int | str) -> list[int]:
    """A shuffled range(count), a function of the keys."""
    return np.argsort(uniforms(count, seed=0, stream=stream(*keys)), kind="stable").tolist()
