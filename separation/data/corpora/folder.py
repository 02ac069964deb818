"""Anybody's recordings: a folder with one sub-folder a speaker."""

import logging
import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from separation.data import audio
from separation.data.audio_files import audio_files, is_hidden, name_below, named_paths
from separation.data.corpora import file_corpus
from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, VALID, Recording
from separation.errors import InputError, check_number
from separation.runs.paths import printable

log = logging.getLogger(__name__)

SILENT_PIECE = 1e-2
"""A piece whose RMS lies 40 dB below that of its file's loudest is a pause, not an utterance."""


@dataclass(frozen=True, kw_only=True)
class FolderCorpus(file_corpus.FileCorpus):
    """Audio files below `root/{speaker}/`, of any rate, channel count and depth of folders.

    Long files are cut to pieces. Of each speaker's files (of the pieces, where there are fewer than three files) a
    share goes to validation and to test, chosen by name, so that it stays where it is when files are added elsewhere. A
    speaker with fewer than three pieces is for training only.

    Args:
        segment_seconds: longest piece.
        valid_share, test_share: fractions in [0.001, 0.4], rounded up to at least one file a speaker.
        held_out: speakers that are left out of every split but `test_unknown`.
    """

    segment_seconds: float = 10.0
    valid_share: float = 0.1
    test_share: float = 0.1
    held_out: list[str | int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        file_corpus.check_names("data.held_out", self.held_out, "anna")
        for key in ("valid_share", "test_share"):
            check_number(f"data.{key}", getattr(self, key), 0.001, 0.4)
        check_number("data.segment_seconds", self.segment_seconds, 0.1, 3600)

    @property
    def name(self) -> str:
        return "folder"

    def fingerprint(self) -> dict[str, Any]:
        return {
            "segment_seconds": self.segment_seconds,
            "shares": [self.valid_share, self.test_share],
            "held_out": sorted(self._held_out),
            "on_error": self.on_error,
            "files": file_corpus.file_fingerprint(file_corpus.corpus_root(self.root), self._paths()),
        }

    def recordings(self, done: Collection[str] = ()) -> Iterator[Recording]:
        decoded = file_corpus.decode_all(self._left(done), self._decode, self.on_error)
        for speaker, items in groupby(decoded, key=lambda item: self._speaker(item[0])):
            divide = self._split_by_file if self._has_files(speaker) else self._split_by_piece
            for name, split, samples in divide(speaker, items):
                if name not in done:
                    yield Recording(name, speaker, split, samples)

    def _left(self, done: Collection[str]) -> list[Path]:
        """The files that aren't stored whole yet: of the stored ones, the last may lack pieces."""
        begun = {name.rpartition("#")[0] for name in done}
        stored = [path for path in self._paths() if name_below(path, self._base) in begun]
        whole = {path for path in stored[:-1] if self._has_files(self._speaker(path))}
        return [path for path in self._paths() if path not in whole]

    def _decode(self, path: Path) -> np.ndarray:
        return audio.read_mono(path, self.sample_rate, keep_offset=False)

    def _pieces(self, items: Iterable[tuple[Path, np.ndarray]]) -> Iterator[tuple[Path, str, np.ndarray]]:
        """Files' pieces by name."""
        for path, samples in items:
            pieces = self._cut(samples)
            if not pieces:
                log.warning("%s: left out: no piece of it holds 0.1 s of sound", printable(path))
            for number, piece in enumerate(pieces):
                yield path, f"{name_below(path, self._base)}#{number}", piece

    def _split_by_file(
        self, _speaker: str, items: Iterable[tuple[Path, np.ndarray]]
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        """One file after another, so that no speaker has to fit in memory."""
        for path, name, piece in self._pieces(items):
            yield name, self._splits[path], piece

    def _split_by_piece(
        self, speaker: str, items: Iterable[tuple[Path, np.ndarray]]
    ) -> Iterator[tuple[str, str, np.ndarray]]:
        pieces = [(name, piece) for _, name, piece in self._pieces(items)]
        splits = self._choose(speaker, sorted(name for name, _ in pieces))
        for name, piece in pieces:
            yield name, splits[name], piece

    def _speaker(self, path: Path) -> str:
        return printable(path.relative_to(self._base).parts[0])

    def _has_files(self, speaker: str) -> bool:
        """Whether a speaker has enough of them for every split."""
        return len(self._files[speaker]) >= 3

    @cached_property
    def _base(self) -> Path:
        """The folder that holds the speakers' folders."""
        return file_corpus.corpus_root(self.root)

    def _find(self) -> list[Path]:
        """All speakers' files, sorted."""
        return audio_files(self._base)

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """Every speaker's, sorted; a warning names what is nobody's, and folders that hold none."""
        paths = self._find()
        loose = [path for path in paths if path.parent == self._base]
        if loose:
            log.warning("%s: left out files beside the speakers' folders: %s", self._base, named_paths(loose))
        by_speaker = groupby((path for path in paths if path.parent != self._base), key=self._speaker)
        speakers = {speaker: list(files) for speaker, files in by_speaker}
        folders = [path for path in self._base.iterdir() if path.is_dir() and not is_hidden(path.name)]
        empty = [folder for folder in folders if printable(folder.name) not in speakers]
        if empty:
            # Without any of their own: a link to another speaker's folder is followed once.
            log.warning("%s: left out folders without usable audio of their own: %s", self._base, named_paths(empty))
        if len(speakers) < 2:
            who = f"only one speaker ({', '.join(speakers)})" if speakers else "no speaker"
            raise InputError(
                f"data.root={self.root}: holds {who}; expected one sub-folder with audio files for each of at least"
                " two speakers, as in root/anna/*.wav and root/bert/*.wav"
            )
        return speakers

    @cached_property
    def _held_out(self) -> list[str]:
        return file_corpus.speakers_named("data.held_out", self.held_out, self._files)

    @cached_property
    def _splits(self) -> dict[Path, str]:
        """The split of every file of the speakers that have enough of them."""
        splits: dict[Path, str] = {}
        for speaker, paths in self._files.items():
            if self._has_files(speaker):
                names = {path: name_below(path, self._base) for path in paths}
                chosen = self._choose(speaker, sorted(names.values()))
                splits |= {path: chosen[name] for path, name in names.items()}
        return splits

    def _paths(self) -> list[Path]:
        return [path for paths in self._files.values() for path in paths]

    def _cut(self, samples: np.ndarray) -> list[np.ndarray]:
        """Equal pieces no longer than `segment_seconds`, without silence at their ends; pauses are left out."""
        count = math.ceil(len(samples) / (self.segment_seconds * self.sample_rate))
        pieces = np.array_split(samples, count)
        levels = [np.square(piece, dtype=np.float64).mean() ** 0.5 for piece in pieces]
        loud = [piece for piece, level in zip(pieces, levels, strict=True) if level > SILENT_PIECE * max(levels)]
        trimmed = [audio.trim(piece) for piece in loud]
        return [piece for piece in trimmed if len(piece) >= audio.SHORTEST_SECONDS * self.sample_rate]

    def _choose(self, speaker: str, names: list[str]) -> dict[str, str]:
        """The split of each of a speaker's files or pieces."""
        if speaker in self._held_out:
            return dict.fromkeys(names, TEST_UNKNOWN)
        return file_corpus.split_names(names, {TEST: self.test_share, VALID: self.valid_share}, "folder", speaker)
