"""Anybody's mixtures: CSV files with LibriMix's columns."""

from dataclasses import dataclass
from pathlib import Path

from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import ListedCorpus, Listing
from separation.data.corpora.corpus import TEST, TRAIN, VALID
from separation.data.corpora.mixture_table import list_tables
from separation.data.corpora.wsj0_2mix import check_noise
from separation.errors import check_path


@dataclass(frozen=True, kw_only=True)
class TableCorpus(ListedCorpus):
    """Mixtures of files of any rate, as three tables list them (columns: see `mixture_table`).

    Args:
        train, valid, test: CSV files. Their relative paths begin at `root`.
        num_sources: sources of each mixture.
        noise: add the files of the column `noise_path`.
    """

    train: str
    valid: str
    test: str
    num_sources: int
    noise: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.dynamic)
        for key in (TRAIN, VALID, TEST):
            check_path(f"data.{key}", getattr(self, key))

    @property
    def name(self) -> str:
        return "csv"

    def list_files(self) -> Listing:
        tables = {split: [Path(getattr(self, split)).expanduser()] for split in (TRAIN, VALID, TEST)}
        return list_tables(tables, file_corpus.corpus_root(self.root), self.num_sources, self.noise)
