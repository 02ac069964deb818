"""What a corpus is to the rest of the package: recordings, a fingerprint of their source, perhaps lists of mixtures."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from separation.errors import check_count, check_path

TRAIN, VALID, TEST, TEST_UNKNOWN = SPLITS = ("train", "valid", "test", "test_unknown")
"""Every split that a corpus may have: `test` holds known speakers' new utterances (or the corpus's
official test set), `test_unknown` speakers that no other split holds."""


class Recording(NamedTuple):
    """One single-speaker utterance, or another single source."""

    name: str
    """Unique in the corpus, for example a path relative to its root."""
    speaker: str
    """Empty where it is nobody's, as noise, or nobody knows whose it is."""
    split: str
    samples: np.ndarray
    """Mono float32, shape (time,), at the corpus's sample rate; full scale is 1."""


class ListedMixture(NamedTuple):
    """A row of a corpus's own mixture list."""

    name: str
    """Unique in its split; can name a folder."""
    sources: tuple[str, ...]
    """Names of recordings."""
    gains: tuple[float, ...]
    """What each source's samples are multiplied by, and the noise's."""
    noise: str | None = None
    """Name of a recording that is in the mixture, but no source."""
    file: Path | None = None
    """The corpus's own mixture, where it has one: the sum of the rest, which is checked, not read."""
    span: tuple[float, float] | None = None
    """First and last second of the recordings that belong to it; None: all of them."""

    @property
    def recordings(self) -> tuple[str, ...]:
        """The sources, and the noise if there is one."""
        return self.sources if self.noise is None else (*self.sources, self.noise)


@dataclass(frozen=True, kw_only=True)
class Corpus(ABC):
    """Recordings by speaker and split, and how many mixtures are made of them.

    Args:
        sample_rate: rate in Hz to which every recording is brought.
        num_train: mixtures that make one training epoch (each epoch draws new ones); null: as many as the corpus lists.
        num_valid: mixtures in the validation list; null: all that the corpus lists.
        num_test: mixtures in each test list; null: all that the corpus lists.
        store: folder in which the decoded samples are kept from run to run; null: `user_cache()`'s.
    """

    downloads: ClassVar[tuple[str, ...]] = ()
    """What scripts/download.py calls it."""
    published: ClassVar[dict[str, int]] = {}
    """How many mixtures the corpus is said to list, by split."""
    exact_sums: ClassVar[bool] = True
    """Whether its mixtures are said to be the exact sums of their sources."""
    unseen_test: ClassVar[bool] = False
    """Whether the test split's speakers are in no other split."""

    sample_rate: int = 8000
    num_train: int | None
    num_valid: int | None
    num_test: int | None
    store: str | None = None

    def __post_init__(self) -> None:
        check_count("data.sample_rate", self.sample_rate, minimum=1000, maximum=384_000)
        for key in ("num_train", "num_valid", "num_test"):
            if getattr(self, key) is not None:
                check_count(f"data.{key}", getattr(self, key), maximum=2**31 - 1 if key == "num_train" else 1_000_000)
        if self.store is not None:
            check_path("data.store", self.store)

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, part of the store's folder name."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Plain values that change whenever the recordings would: settings, file names, sizes, digests of content."""

    @abstractmethod
    def recordings(self, done: Collection[str] = ()) -> Iterator[Recording]:
        """Decodes or generates every recording, in a fixed order.

        Args:
            done: names of the first ones, which are left out.

        Raises:
            InputError: a file can't be used; the message names every such file.
        """

    def sexes(self) -> dict[str, str]:
        """The speakers' sexes, "F" or "M", as far as the corpus says."""
        return {}

    def mixture_lists(self, stored: Collection[str]) -> dict[str, list[ListedMixture]]:
        """The mixtures of the splits that have a list; those of others are drawn.

        Args:
            stored: names of the recordings in the sample store.

        Raises:
            InputError: a list can't be used.
        """
        return {}
