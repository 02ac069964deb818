"""The Free Spoken Digit Dataset: digits of one speaker, joined to utterances."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from separation.data import audio
from separation.data.corpora import file_corpus
from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, TRAIN, VALID, Recording
from separation.data.keyed_random import permutation
from separation.errors import InputError, check_count, check_number

FILE_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<index>\d+)\.wav")


@dataclass(frozen=True, kw_only=True)
class FsddCorpus(file_corpus.FileCorpus):
    """FSDD's recordings `{digit}_{speaker}_{index}.wav` (in `root`, or in `recordings` below it), each speaker's
    digits joined in a shuffled order.

    Indices 0-4 are the official test set (of the speakers that are trained on), 5-9 make the validation split, the
    rest is for training.

    Args:
        utterance_seconds: length of the joined utterances.
        passes: how often each digit is used, in another order each time.
        held_out: speakers that are left out of every split but `test_unknown`, which is made of their test digits.
    """

    downloads = ("fsdd",)
    utterance_seconds: float = 4.0
    passes: int = 4
    held_out: list[str | int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        file_corpus.check_names("data.held_out", self.held_out, "anna")
        check_number("data.utterance_seconds", self.utterance_seconds, 0.1, 60)
        check_count("data.passes", self.passes, maximum=100)

    @property
    def name(self) -> str:
        return "fsdd"

    def fingerprint(self) -> dict[str, Any]:
        root, paths = self._files()
        return {
            "utterance_seconds": self.utterance_seconds,
            "passes": self.passes,
            "held_out": sorted(map(str, self.held_out)),
            "on_error": self.on_error,
            "files": file_corpus.file_fingerprint(root, paths),
        }

    def recordings(self, done: Collection[str] = ()) -> Iterator[Recording]:
        _, paths = self._files()
        digits: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
        for path, samples in file_corpus.decode_all(paths, self._decode, self.on_error):
            match = FILE_NAME.fullmatch(path.name)
            assert match  # _files lists no other names
            digits[match["speaker"], self._split(match["speaker"], int(match["index"]))].append(samples)
        for speaker, split in sorted(digits):
            if split:
                for number, samples in enumerate(self._join(digits[speaker, split], speaker, split)):
                    name = f"{speaker}/{split}/{number:04}"
                    if name not in done:
                        yield Recording(name, speaker, split, samples)

    def _decode(self, path: Path) -> np.ndarray:
        return audio.read_mono(path, self.sample_rate)

    def _files(self) -> tuple[Path, list[Path]]:
        root = file_corpus.corpus_root(self.root)
        inner = (root / "recordings", root / "free-spoken-digit-dataset" / "recordings")
        folder = next((path for path in inner if path.is_dir()), root)
        paths = sorted(path for path in folder.iterdir() if FILE_NAME.fullmatch(path.name))
        if not paths:
            raise InputError(f"data.root={self.root}: holds no files named like 7_jackson_32.wav; is it FSDD?")
        file_corpus.speakers_named("data.held_out", self.held_out, {path.name.split("_")[1] for path in paths})
        return root, paths

    def _split(self, speaker: str, index: int) -> str:
        """The split that a file belongs to; an empty string where it belongs to none."""
        if speaker in map(str, self.held_out):
            return TEST_UNKNOWN if index < 5 else ""
        return TEST if index < 5 else VALID if index < 10 else TRAIN

    def _join(self, digits: list[np.ndarray], speaker: str, split: str) -> list[np.ndarray]:
        order = [i for n in range(self.passes) for i in permutation(len(digits), "fsdd", speaker, split, n)]
        joined = np.concatenate([digits[i] for i in order])
        length = round(self.utterance_seconds * self.sample_rate)
        whole = [joined[start : start + length] for start in range(0, len(joined) - length + 1, length)]
        return whole or [joined]
