"""Ready-made mixtures: folders s1, s2, ... of single sources beside one of mixtures, the same file names in each."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from separation.data.audio_files import AUDIO_SUFFIXES, is_hidden
from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, Entry
from separation.data.corpora.corpus import ListedMixture
from separation.errors import InputError
from separation.runs.paths import printable


class MixtureTree(NamedTuple):
    """How a tree is laid out."""

    base: Path
    """The folder that holds the splits' folders."""
    num_sources: int
    """The folders s1, s2, ... of each."""
    mixture: str
    """Name of the mixtures' folder."""
    noise: str | None
    """Name of the noises' folder, if noise belongs to the mixtures."""
    speakers: Callable[[str], Sequence[str]]
    """A mixture's name (without suffix) to its speakers, one a source."""

    @classmethod
    def like_wham(
        cls, base: Path, num_sources: int, noise: bool, speakers: Callable[[str], Sequence[str]]
    ) -> "MixtureTree":
        """As WHAM! and LibriMix lay it out: mixtures with noise in mix_both, without in mix_clean."""
        mixture, noises = ("mix_both", "noise") if noise else ("mix_clean", None)
        return cls(base, num_sources, mixture, noises, speakers)

    @property
    def parts(self) -> list[str]:
        """The folders that a mixture is the sum of."""
        sources = [f"s{number + 1}" for number in range(self.num_sources)]
        return sources if self.noise is None else [*sources, self.noise]

    def list_splits(self, splits: Mapping[str, Sequence[str]]) -> Catalogue:
        """Lists the splits of a tree.

        Args:
            splits: each split's folders.

        Raises:
            InputError: a folder is missing, or some files are in one folder and not in another.
        """
        catalogue = Catalogue([], {split: [] for split in splits})
        for split, folders in splits.items():
            for folder in folders:
                for entries, mixture in self._list_folder(self.base / folder, split):
                    catalogue.entries.extend(entries)
                    catalogue.mixtures[split].append(mixture)
        return catalogue

    def _list_folder(self, folder: Path, split: str) -> Iterator[tuple[list[Entry], ListedMixture]]:
        """Each mixture and its recordings."""
        for file in self._files(folder):
            people = self.speakers(Path(file).stem)
            if len(people) != self.num_sources:
                raise InputError(
                    f"{folder / self.mixture / file}: its name doesn't tell {self.num_sources} speakers; is it another"
                    " corpus?"
                )
            paths = [folder / part / file for part in self.parts]
            entries = [
                Entry(path.relative_to(self.base).as_posix(), speaker, split, (path,))
                for path, speaker in zip(paths, (*people, ""), strict=False)
            ]
            names = tuple(entry.name for entry in entries)
            yield (
                entries,
                ListedMixture(
                    name=Path(file).stem,
                    sources=names[: self.num_sources],
                    gains=(1.0,) * len(names),
                    noise=names[-1] if self.noise is not None else None,
                    file=folder / self.mixture / file,
                ),
            )

    def _files(self, folder: Path) -> list[str]:
        """Names of the mixtures' files, which every part has."""
        files = {part: _names(folder / part) for part in (*self.parts, self.mixture)}
        names = set().union(*files.values())
        missing = [folder / part / name for part, there in files.items() for name in sorted(names - there)]
        if missing:
            raise InputError(
                f"{folder}: a part of it is missing: there is no {file_corpus.named(missing, ', ')}; generate it again"
            )
        return sorted(names)


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; is data.root the corpus's, and whole?")
    # Names alone: asking for anything else of each of 100,000 files takes minutes on a network's disk.
    names = {name for name in os.listdir(folder) if Path(name).suffix.lower() in AUDIO_SUFFIXES and not is_hidden(name)}
    odd = [printable(name) for name in names if printable(name) != name]
    if odd:
        raise InputError(f"{folder}: file names that aren't UTF-8: {file_corpus.named(sorted(odd), ', ')}; rename them")
    return names


def folder_of_rate(base: Path, rate: int, mode: str) -> Path:
    """`wav8k/min` and the like.

    Raises:
        InputError: there is none; names those that are there.
    """
    folder = base / f"wav{rate // 1000}k" / mode
    if not folder.is_dir():
        there = sorted(path.relative_to(base).as_posix() for path in base.glob("wav*/*") if path.is_dir())
        raise InputError(
            f"{folder}: no such folder (data.root, data.sample_rate={rate}, mixing.mode={mode}); there are"
            f" {', '.join(there) or 'none like it'}"
        )
    return folder


def check_unpadded(mode: str, dynamic: bool) -> None:
    """Raises InputError where mixtures would be drawn of sources that were padded with zeros."""
    if dynamic and mode == "max":
        raise InputError("data.dynamic=true: these sources were padded (mixing.mode=max); take those of min")
