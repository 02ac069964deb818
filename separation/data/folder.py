"""Anybody's recordings: a folder with one sub-folder a speaker."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from separation.data import audio, files
from separation.data.corpus import TEST, TEST_UNKNOWN, TRAIN, VALID, Corpus, Recording
from separation.data.draws import permutation
from separation.errors import InputError, check_number

SILENT_PIECE = 1e-2
"""A piece whose RMS lies 40 dB below that of its file's loudest is a pause, not an utterance."""


@dataclass(frozen=True, kw_only=True)
class FolderCorpus(Corpus):
    """Audio files below `root/{speaker}/`, of any rate, channel count and depth of folders.

    Long files are cut to pieces. Of each speaker's files (of the pieces, where there are fewer than three files) a
    share goes to validation and to test, chosen by name, so that it stays where it is when files are added elsewhere.

    Args:
        root: the folder.
        segment_seconds: longest piece.
        valid_share, test_share: fractions in [0.001, 0.4], rounded up to at least one file a speaker.
        held_out: speakers that are left out of every split but `test_unknown`.
    """

    root: str
    segment_seconds: float = 10.0
    valid_share: float = 0.1
    test_share: float = 0.1
    held_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("valid_share", "test_share"):
            check_number(f"data.{key}", getattr(self, key), 0.001, 0.4)
        check_number("data.segment_seconds", self.segment_seconds, 0.1, 3600)

    @property
    def name(self) -> str:
        return "folder"

    def fingerprint(self) -> dict[str, Any]:
        root = files.corpus_root(self.root)
        return {
            "segment_seconds": self.segment_seconds,
            "shares": [self.valid_share, self.test_share],
            "held_out": sorted(self.held_out),
            "files": files.file_fingerprint(root, [path for paths in self._files().values() for path in paths]),
        }

    def recordings(self) -> Iterator[Recording]:
        speakers = self._files()
        root = files.corpus_root(self.root)
        every = [path for paths in speakers.values() for path in paths]
        pieces: dict[str, list[tuple[str, str, np.ndarray]]] = defaultdict(list)
        for path, samples in files.decode_all(every, self.sample_rate):
            relative = path.relative_to(root)
            for number, piece in enumerate(self._cut(samples)):
                pieces[relative.parts[0]].append((relative.as_posix(), f"{relative.as_posix()}#{number}", piece))
        for speaker, items in pieces.items():
            by_file = len(speakers[speaker]) >= 3
            units = [file if by_file else name for file, name, _ in items]
            splits = self._splits(speaker, sorted(set(units)))
            for unit, (_, name, piece) in zip(units, items, strict=True):
                yield Recording(name, speaker, splits[unit], piece)

    def _files(self) -> dict[str, list[Path]]:
        root = files.corpus_root(self.root)
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        speakers = {folder.name: audio.audio_files(folder) for folder in folders}
        speakers = {speaker: paths for speaker, paths in speakers.items() if paths}
        if len(speakers) < 2:
            found = f"only one speaker ({', '.join(speakers)})" if speakers else "no speaker"
            raise InputError(
                f"data.root={self.root}: holds {found}; expected one sub-folder with audio files for each of at least"
                " two speakers, as in root/anna/*.wav and root/bert/*.wav"
            )
        files.check_held_out(self.held_out, speakers)
        return speakers

    def _cut(self, samples: np.ndarray) -> list[np.ndarray]:
        """Equal pieces no longer than `segment_seconds`, pauses left out."""
        count = math.ceil(len(samples) / (self.segment_seconds * self.sample_rate))
        pieces = np.array_split(samples, count)
        levels = [np.square(piece, dtype=np.float64).mean() ** 0.5 for piece in pieces]
        loud = [piece for piece, level in zip(pieces, levels, strict=True) if level > SILENT_PIECE * max(levels)]
        return [audio.trim(piece) for piece in loud]

    def _splits(self, speaker: str, names: list[str]) -> dict[str, str]:
        """The split of each of a speaker's files or pieces."""
        if speaker in self.held_out:
            return dict.fromkeys(names, TEST_UNKNOWN)
        if len(names) < 3:
            raise InputError(
                f"{Path(self.root) / speaker}: {len(names)} recordings of at most {self.segment_seconds} s are too few;"
                " a speaker needs three (to train, validate and test): add some, or lower data.segment_seconds"
            )
        num_test = math.ceil(self.test_share * len(names))
        num_valid = math.ceil(self.valid_share * len(names))
        order = permutation(len(names), "folder", speaker)
        splits = dict.fromkeys(names, TRAIN)
        splits |= {names[i]: TEST for i in order[:num_test]}
        splits |= {names[i]: VALID for i in order[num_test : num_test + num_valid]}
        return splits
