"""LibriMix: mixtures of LibriSpeech's readers, ready-made or made of LibriSpeech and the published gains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from separation.data import audio
from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, ListedCorpus, check_noise
from separation.data.corpora.corpus import TEST, TRAIN, VALID
from separation.data.corpora.csv_tables import list_tables
from separation.data.corpora.librispeech import reader_sexes, speaker_of, utterances_folder
from separation.data.corpora.mixture_tree import MixtureTree, check_unpadded, folder_of_rate
from separation.data.mixtures import MODES
from separation.errors import InputError, check_choice
from separation.runs.paths import user_path

TRAIN_COUNTS = {(2, "train-100"): 13_900, (2, "train-360"): 50_800, (3, "train-100"): 9_300, (3, "train-360"): 33_900}
"""By the number of sources and the subset."""
TRAIN_SUBSETS = ("train-100", "train-360")


def speakers_of(name: str) -> Sequence[str]:
    """The speakers in a name such as `{speaker}-{chapter}-{number}_{speaker}-{chapter}-{number}`."""
    return [speaker_of(Path(utterance)) for utterance in name.split("_")]


@dataclass(frozen=True, kw_only=True)
class LibriMixCorpus(ListedCorpus):
    """Libri2Mix (or Libri3Mix), either `Libri2Mix/wav8k/min/{train-100,dev,test}/{s1,s2,mix_clean,...}/*.wav` as its
    generator writes it; or, with `metadata`, LibriSpeech's utterances and the generator's tables of gains
    (`libri2mix_train-clean-100.csv`, ...): the same mixtures, without a file of them being written.

    Args:
        metadata: the folder of the tables; `root` is LibriSpeech then. Null: `root` holds the mixtures.
        train: training subsets, of train-100 and train-360.
        num_sources: 2 or 3.
        mode: min or max.
        noise: mixtures with noise (mix_both), or of the speakers alone (mix_clean).
    """

    downloads = ("libri2mix",)
    unseen_test = True

    metadata: str | None
    train: list[str] = field(default_factory=lambda: ["train-100"])
    num_sources: int
    mode: str
    noise: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.dynamic)
        check_choice("mixing.mode", self.mode, MODES)
        file_corpus.check_names("data.train", self.train, "train-100")
        for subset in self.train:
            check_choice("data.train", subset, TRAIN_SUBSETS)
        if self.metadata is None:
            check_unpadded(self.mode, self.dynamic)
        else:
            user_path("data.metadata", self.metadata)
            if self.noise:
                raise InputError("data.noise=true: the tables' noise is WHAM!'s, which LibriSpeech hasn't; use false")

    @property
    def name(self) -> str:
        return f"libri{self.num_sources}mix"

    @property
    def published(self) -> dict[str, int]:  # type: ignore[override]
        return {
            TRAIN: sum(TRAIN_COUNTS.get((self.num_sources, subset), 0) for subset in self.train),
            VALID: 3_000,
            TEST: 3_000,
        }

    @property
    def native_rate(self) -> int:  # type: ignore[override]
        return self.sample_rate if self.metadata is None else 16_000

    def sexes(self) -> dict[str, str]:
        return reader_sexes(self.root)

    def read(self, path: Path) -> np.ndarray:
        resample = audio.resample if self.metadata is None else audio.resample_polyphase
        return audio.read_mono(path, self.sample_rate, self.native_rate, resample)

    def list_files(self) -> Catalogue:
        subsets = {TRAIN: list(self.train), VALID: ["dev"], TEST: ["test"]}
        if self.metadata is None:
            root = file_corpus.corpus_root(self.root)
            base = root / f"Libri{self.num_sources}Mix"
            folder = folder_of_rate(base if base.is_dir() else root, self.sample_rate, self.mode)
            return MixtureTree.like_wham(folder, self.num_sources, self.noise, speakers_of).list_splits(subsets)
        tables = {
            split: [
                user_path("data.metadata", self.metadata) / f"libri{self.num_sources}mix_{_librispeech(name)}.csv"
                for name in names
            ]
            for split, names in subsets.items()
        }
        return list_tables(tables, utterances_folder(self.root), self.num_sources, noise=False, speaker=speaker_of)


def _librispeech(subset: str) -> str:
    """LibriSpeech's name of a subset."""
    kind, _, hours = subset.partition("-")
    return f"{kind}-clean-{hours}" if hours else f"{kind}-clean"


@dataclass(frozen=True, kw_only=True)
class MiniLibriMixCorpus(ListedCorpus):
    """`MiniLibriMix/{train,val}/{s1,s2,mix_clean,mix_both,noise}/*.wav`, 8 kHz, two speakers.

    It has no test set: every other mixture of `val` is for validation, the rest for testing.

    Args:
        noise: see `LibriMixCorpus`.
    """

    downloads = ("minilibrimix",)
    published: ClassVar[dict[str, int]] = {TRAIN: 800, VALID: 100, TEST: 100}
    native_rate = 8000

    noise: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.dynamic)

    @property
    def name(self) -> str:
        return "minilibrimix"

    def list_files(self) -> Catalogue:
        root = file_corpus.corpus_root(self.root)
        base = root / "MiniLibriMix" if (root / "MiniLibriMix").is_dir() else root
        tree = MixtureTree.like_wham(base, 2, self.noise, speakers_of)
        catalogue = tree.list_splits({TRAIN: ["train"], VALID: ["val"]})
        held = catalogue.mixtures[VALID]
        tested = {name for row in held[1::2] for name in row.recordings}
        entries = [entry._replace(split=TEST) if entry.name in tested else entry for entry in catalogue.entries]
        return Catalogue(entries, {**catalogue.mixtures, VALID: held[::2], TEST: held[1::2]})
