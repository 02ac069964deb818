"""LibriSpeech: read English, mixed by the protocol of WSJ0-2mix."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from separation.data import audio
from separation.data.audio_files import audio_files, name_below
from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, Entry, PlainCorpus
from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, VALID
from separation.errors import InputError, check_count, check_number

MINI_SUBSETS = ("train-clean-5", "dev-clean-2")
"""Of Mini LibriSpeech (openslr.org/31)."""
SEX = re.compile(r"^(?P<speaker>\d+) *\| *(?P<sex>[FM]) *\|", re.MULTILINE)
"""In a line of SPEAKERS.TXT."""


def utterances_folder(root: str) -> Path:
    """The folder that holds the subsets: `root`, or its sub-folder LibriSpeech."""
    folder = file_corpus.corpus_root(root)
    return folder / "LibriSpeech" if (folder / "LibriSpeech").is_dir() else folder


def reader_sexes(root: str) -> dict[str, str]:
    """Of LibriSpeech's readers, by its SPEAKERS.TXT; empty where that isn't in the folder."""
    return file_corpus.sexes_in(utterances_folder(root) / "SPEAKERS.TXT", SEX)


def speaker_of(path: Path) -> str:
    """Whose utterance `{speaker}-{chapter}-{number}.flac` is."""
    return path.stem.partition("-")[0]


@dataclass(frozen=True, kw_only=True)
class LibriSpeechCorpus(PlainCorpus):
    """Files `{subset}/{speaker}/{chapter}/{speaker}-{chapter}-{number}.flac`, 16 kHz, or copies at the model's rate.

    As in WSJ0-2mix, validation has other utterances of the training speakers, and the test speakers are others. With
    `test_share` the split `test` is made of further utterances of the training speakers, and those of `test` are the
    split `test_unknown`. A training speaker with fewer utterances than such splits is for training only.

    Args:
        train, test: subsets, as in [train-clean-100].
        speakers: training speakers, by name, or how many: those with most speech, ties by name. Null: all.
        valid_share: of each training speaker's utterances, a fraction in [0.001, 0.4].
        test_share: the same for the split `test`; 0: it has the speakers of the subsets `test`.
    """

    downloads = ("mini_librispeech", "librispeech")
    native_rate = 16_000

    train: list[str] = field(default_factory=lambda: ["train-clean-100"])
    test: list[str] = field(default_factory=lambda: ["test-clean"])
    speakers: list[str | int] | int | None = None
    valid_share: float = 0.1
    test_share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("data.valid_share", self.valid_share, 0.001, 0.4)
        if self.test_share != 0:
            check_number("data.test_share", self.test_share, 0.001, 0.4)
        file_corpus.check_names("data.train", self.train, "train-clean-100")
        file_corpus.check_names("data.test", self.test, "test-clean")
        if isinstance(self.speakers, int):
            check_count("data.speakers", self.speakers, minimum=2)
        elif self.speakers is not None:
            file_corpus.check_names("data.speakers", self.speakers, "103")

    @property
    def name(self) -> str:
        return "librispeech"

    @property
    def unseen_test(self) -> bool:  # type: ignore[override]
        return self.test_share == 0

    def sexes(self) -> dict[str, str]:
        return reader_sexes(self.root)

    def read(self, path: Path) -> np.ndarray:
        return audio.read_mono(path, self.sample_rate, self.native_rate, keep_offset=False)

    def list_files(self) -> Catalogue:
        catalogue = Catalogue([], {})
        train = self._chosen(self._utterances(self.train))
        shares = {VALID: self.valid_share} if self.test_share == 0 else {TEST: self.test_share, VALID: self.valid_share}
        for speaker, paths in train.items():
            splits = file_corpus.split_names(sorted(paths), shares, "librispeech", speaker)
            catalogue.entries.extend(
                Entry(name, speaker, splits[name], (path,)) for name, path in sorted(paths.items())
            )
        split = TEST if self.test_share == 0 else TEST_UNKNOWN
        for speaker, paths in self._utterances(self.test).items():
            if speaker in train:
                raise InputError(f"data.test={self.test}: speaker {speaker} is in data.train={self.train} too")
            catalogue.entries.extend(Entry(name, speaker, split, (path,)) for name, path in sorted(paths.items()))
        return catalogue

    def _chosen(self, train: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
        """The training speakers that are asked for."""
        if self.speakers is None:
            return train
        if isinstance(self.speakers, int):
            if self.speakers > len(train):
                raise InputError(f"data.speakers={self.speakers}: data.train={self.train} has {len(train)} speakers")
            seconds = {speaker: sum(map(_seconds, paths.values())) for speaker, paths in train.items()}
            most = sorted(train, key=lambda speaker: (-seconds[speaker], speaker))[: self.speakers]
            return {speaker: train[speaker] for speaker in sorted(most)}
        names = file_corpus.speakers_named("data.speakers", self.speakers, train)
        needed = 2 if self.test_share == 0 else 3
        few = [name for name in names if len(train[name]) < needed]
        if few:
            raise InputError(
                f"data.speakers: {', '.join(few)}: fewer than {needed} utterances, too few for one in each split; name"
                " other speakers"
            )
        return {speaker: train[speaker] for speaker in sorted(names)}

    def _utterances(self, subsets: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Each speaker's utterances by name."""
        root = utterances_folder(self.root)
        speakers: dict[str, dict[str, Path]] = {}
        for subset in subsets:
            paths = audio_files(root / subset) if (root / subset).is_dir() else []
            if not paths:
                corpus = "mini_librispeech" if subset in MINI_SUBSETS else "librispeech"
                raise InputError(
                    f"data.root={self.root}: holds no {subset}; python scripts/download.py {corpus} subset={subset}"
                    f" root={self.root} fetches it"
                )
            for path in paths:
                speakers.setdefault(speaker_of(path), {})[name_below(path, root)] = path
        return dict(sorted(speakers.items()))


def _seconds(path: Path) -> float:
    """A recording's length, by its header."""
    try:
        return float(soundfile.info(path).duration)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: can't be read as audio ({error}); replace or remove it") from error
