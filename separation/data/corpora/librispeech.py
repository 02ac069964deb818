"""LibriSpeech: read English, mixed by the protocol of WSJ0-2mix."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from separation.data import audio
from separation.data.audio_files import audio_files, name_below
from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, Entry, PlainCorpus
from separation.data.corpora.corpus import TEST, VALID
from separation.errors import InputError, check_number


def utterances_folder(root: str) -> Path:
    """The folder that holds the subsets: `root`, or its sub-folder LibriSpeech."""
    folder = file_corpus.corpus_root(root)
    return folder / "LibriSpeech" if (folder / "LibriSpeech").is_dir() else folder


def speaker_of(path: Path) -> str:
    """Whose utterance `{speaker}-{chapter}-{number}.flac` is."""
    return path.stem.partition("-")[0]


@dataclass(frozen=True, kw_only=True)
class LibriSpeechCorpus(PlainCorpus):
    """Files `{subset}/{speaker}/{chapter}/{speaker}-{chapter}-{number}.flac`, 16 kHz.

    As in WSJ0-2mix, validation has other utterances of the training speakers, and the test speakers are others.

    Args:
        train, test: subsets, as in [train-clean-100].
        valid_share: of each training speaker's utterances, a fraction in [0.001, 0.4].
    """

    unseen_test = True
    native_rate = 16_000

    train: list[str] = field(default_factory=lambda: ["train-clean-100"])
    test: list[str] = field(default_factory=lambda: ["test-clean"])
    valid_share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("data.valid_share", self.valid_share, 0.001, 0.4)
        file_corpus.check_names("data.train", self.train, "train-clean-100")
        file_corpus.check_names("data.test", self.test, "test-clean")

    @property
    def name(self) -> str:
        return "librispeech"

    def read(self, path: Path) -> np.ndarray:
        return audio.read_mono(path, self.sample_rate, self.native_rate, keep_offset=False)

    def list_files(self) -> Catalogue:
        catalogue = Catalogue([], {})
        train = self._speakers(self.train)
        for speaker, paths in train.items():
            splits = file_corpus.split_names(sorted(paths), {VALID: self.valid_share}, "librispeech", speaker)
            catalogue.entries.extend(
                Entry(name, speaker, splits[name], (path,)) for name, path in sorted(paths.items())
            )
        for speaker, paths in self._speakers(self.test).items():
            if speaker in train:
                raise InputError(f"data.test={self.test}: speaker {speaker} is in data.train={self.train} too")
            catalogue.entries.extend(Entry(name, speaker, TEST, (path,)) for name, path in sorted(paths.items()))
        return catalogue

    def _speakers(self, subsets: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Each speaker's utterances by name."""
        root = utterances_folder(self.root)
        speakers: dict[str, dict[str, Path]] = {}
        for subset in subsets:
            paths = audio_files(root / subset)
            if not paths:
                raise InputError(
                    f"data.root={self.root}: holds no {subset}; python scripts/download.py librispeech subset={subset}"
                    f" root={self.root} fetches it"
                )
            for path in paths:
                speakers.setdefault(speaker_of(path), {})[name_below(path, root)] = path
        return dict(sorted(speakers.items()))
