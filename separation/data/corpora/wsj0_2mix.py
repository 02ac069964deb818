"""WSJ0-2mix and WHAM!: ready-made mixtures of the Wall Street Journal's readers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, ListedCorpus, check_noise
from separation.data.corpora.corpus import TEST, TRAIN, VALID
from separation.data.corpora.mixture_tree import MixtureTree, check_unpadded, folder_of_rate
from separation.data.mixtures import MODES
from separation.errors import check_choice

SPLITS = {TRAIN: ["tr"], VALID: ["cv"], TEST: ["tt"]}


def speakers_of(name: str) -> Sequence[str]:
    """The speakers in a name such as `{utterance}_{level}_{utterance}_{level}`: an utterance's first three letters."""
    return [utterance[:3] for utterance in name.split("_")[::2]]


@dataclass(frozen=True, kw_only=True)
class Wsj0MixCorpus(ListedCorpus):
    """`2speakers/wav8k/min/{tr,cv,tt}/{mix,s1,s2}/*.wav`, as made by the scripts of Hershey et al. (2016).

    The speakers of tr and cv are the same, those of tt are others.

    Args:
        num_sources: 2 or 3; `root` holds 2speakers/ or 3speakers/.
        mode: min or max, the lengths for which they were made.
    """

    unseen_test = True
    published: ClassVar[dict[str, int]] = {TRAIN: 20_000, VALID: 5_000, TEST: 3_000}

    num_sources: int
    mode: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("mixing.mode", self.mode, MODES)
        check_unpadded(self.mode, self.dynamic)

    @property
    def name(self) -> str:
        return f"wsj0_{self.num_sources}mix"

    @property
    def native_rate(self) -> int:  # type: ignore[override]
        return self.sample_rate

    def list_files(self) -> Catalogue:
        root = file_corpus.corpus_root(self.root)
        base = root / f"{self.num_sources}speakers"
        folder = folder_of_rate(base if base.is_dir() else root, self.sample_rate, self.mode)
        return MixtureTree(folder, self.num_sources, "mix", None, speakers_of).list_splits(SPLITS)


@dataclass(frozen=True, kw_only=True)
class WhamCorpus(Wsj0MixCorpus):
    """`wav8k/min/{tr,cv,tt}/{mix_clean,mix_both,noise,s1,s2}/*.wav` (Wichern et al., 2019).

    Args:
        noise: mixtures with noise (mix_both), or of the speakers alone (mix_clean).
    """

    noise: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.dynamic)

    @property
    def name(self) -> str:
        return "wham"

    def list_files(self) -> Catalogue:
        folder = folder_of_rate(file_corpus.corpus_root(self.root), self.sample_rate, self.mode)
        return MixtureTree.like_wham(folder, self.num_sources, self.noise, speakers_of).list_splits(SPLITS)
