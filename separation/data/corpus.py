"""What a corpus is to the rest of the package: a stream of recordings and a fingerprint of its source."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from separation.errors import check_count, check_path

TRAIN, VALID, TEST, TEST_UNKNOWN = SPLITS = ("train", "valid", "test", "test_unknown")
"""Every split that a corpus may have: `test` holds known speakers' new utterances (or the corpus's
official test set), `test_unknown` speakers that no other split holds."""


class Recording(NamedTuple):
    """One single-speaker utterance."""

    name: str
    """Unique in the corpus, for example a path relative to its root."""
    speaker: str
    split: str
    samples: np.ndarray
    """Mono float32, shape (time,), at the corpus's sample rate; full scale is 1."""


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """Single-speaker recordings by speaker and split, and how many mixtures are drawn from them.

    Args:
        sample_rate: rate in Hz to which every recording is brought.
        num_train: mixtures that make one training epoch (each epoch draws new ones).
        num_valid: mixtures in the validation list.
        num_test: mixtures in each test list.
        store: folder in which the decoded samples are kept from run to run.
    """

    sample_rate: int = 8000
    num_train: int
    num_valid: int
    num_test: int
    store: str = "cache"

    def __post_init__(self) -> None:
        check_count("data.sample_rate", self.sample_rate, minimum=1000, maximum=384_000)
        check_count("data.num_train", self.num_train)
        for key in ("num_valid", "num_test"):
            check_count(f"data.{key}", getattr(self, key), maximum=1_000_000)
        check_path("data.store", self.store)

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, part of the store's folder name."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that change whenever the recordings would: settings, file names, sizes, times."""

    @abstractmethod
    def recordings(self) -> Iterator[Recording]:
        """Decodes or generates every recording, in a fixed order.

        Raises:
            InputError: a file can't be used; the message names every such file.
        """
