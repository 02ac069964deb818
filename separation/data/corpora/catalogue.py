"""Corpora that are a list of audio files, and perhaps lists of mixtures of them."""

import logging
from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from separation.data import audio
from separation.data.corpora import file_corpus
from separation.data.corpora.corpus import TRAIN, ListedMixture, Recording
from separation.errors import InputError, check_flag

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A recording before it is decoded."""

    name: str
    """Unique in the corpus."""
    speaker: str
    split: str
    paths: tuple[Path, ...]
    """Its file; the recording is the sum of several."""


class Catalogue(NamedTuple):
    """What a corpus holds."""

    entries: list[Entry]
    mixtures: dict[str, list[ListedMixture]]
    """By split; empty where mixtures are drawn."""


@dataclass(frozen=True, kw_only=True)
class PlainCorpus(file_corpus.FileCorpus):
    """A corpus each of whose recordings is a file."""

    native_rate: ClassVar[int | None] = None
    """Rate of its files in Hz; None: any."""

    @abstractmethod
    def list_files(self) -> Catalogue:
        """Finds its files, without opening them.

        Raises:
            InputError: the folder isn't the corpus's, or a list in it can't be used.
        """

    @cached_property
    def catalogue(self) -> Catalogue:
        """What `list_files` found."""
        return self.list_files()

    def read(self, path: Path) -> np.ndarray:
        """One file's samples, shape (time,); see `audio.read_mono`."""
        return audio.read_mono(path, self.sample_rate, self.native_rate)

    def decode(self, entry: Entry) -> np.ndarray:
        """One recording's samples, shape (time,)."""
        [path, *others] = entry.paths
        if not others:
            return self.read(path)
        parts = [audio.read_mono(path, self.sample_rate, self.native_rate, may_be_silent=True) for path in entry.paths]
        names = ", ".join(map(str, entry.paths))
        if len({len(part) for part in parts}) > 1:
            raise InputError(f"{names}: differ in length; get them again")
        total: np.ndarray = np.sum(parts, axis=0)
        if not total.any():
            raise InputError(f"{names}: are silent together; replace or remove them")
        return total

    def fingerprint(self) -> dict[str, Any]:
        entries = [[*entry[:3], len(entry.paths)] for entry in self.catalogue.entries]
        paths = [path for entry in self.catalogue.entries for path in entry.paths]
        fingerprints = file_corpus.file_fingerprint(file_corpus.corpus_root(self.root), paths)
        return {"on_error": self.on_error, "entries": entries, "files": fingerprints}

    def recordings(self, done: Collection[str] = ()) -> Iterator[Recording]:
        waiting = [entry for entry in self.catalogue.entries if entry.name not in done]
        for entry, samples in file_corpus.decode_all(waiting, self.decode, self.on_error):
            yield Recording(*entry[:3], samples)


@dataclass(frozen=True, kw_only=True)
class ListedCorpus(PlainCorpus):
    """A corpus with lists of mixtures.

    Args:
        dynamic: draw training mixtures of its speakers' utterances instead of those of its list.
    """

    dynamic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("data.dynamic", self.dynamic)

    def mixture_lists(self, stored: Collection[str]) -> dict[str, list[ListedMixture]]:
        lists = {
            split: rows for split, rows in self.catalogue.mixtures.items() if not (self.dynamic and split == TRAIN)
        }
        if self.on_error == "skip":
            names = set(stored)
            usable = {split: [row for row in rows if names.issuperset(row.recordings)] for split, rows in lists.items()}
            count = sum(len(rows) - len(usable[split]) for split, rows in lists.items())
            if count:
                log.warning("data.on_error=skip: %d mixtures are left out with their files", count)
            return usable
        return lists


def check_noise(noise: object, dynamic: bool) -> None:
    """Raises InputError unless `data.noise` is true or false and goes with `data.dynamic`."""
    check_flag("data.noise", noise)
    if noise and dynamic:
        raise InputError("data.dynamic=true: drawn mixtures have no noise; take data.noise=false, or the corpus's list")
