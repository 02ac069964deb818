"""VCTK 0.92: 110 English speakers, two microphones."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from separation.data.corpora import file_corpus
from separation.data.corpora.folder import FolderCorpus
from separation.errors import InputError, check_choice

FOLDER = "wav48_silence_trimmed"
MICROPHONES = ("mic1", "mic2")
SEX = re.compile(r"^(?P<speaker>[ps]\d+) +\d* +(?P<sex>[FM])\b", re.MULTILINE)
"""In a line of speaker-info.txt."""


@dataclass(frozen=True, kw_only=True)
class VctkCorpus(FolderCorpus):
    """Files `wav48_silence_trimmed/p225/p225_001_mic1.flac`, 48 kHz, divided as a folder's (see `FolderCorpus`).

    Args:
        microphone: mic1, or mic2, with which the speakers p280 and p315 weren't recorded.
    """

    downloads = ("vctk",)
    microphone: str = "mic1"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("data.microphone", self.microphone, MICROPHONES)

    @property
    def name(self) -> str:
        return f"vctk-{self.microphone}"

    @cached_property
    def _base(self) -> Path:
        root = file_corpus.corpus_root(self.root)
        for folder in (root / FOLDER, root / "VCTK-Corpus-0.92" / FOLDER):
            if folder.is_dir():
                return folder
        raise InputError(
            f"data.root={self.root}: holds no {FOLDER}; is it VCTK 0.92? python scripts/download.py vctk"
            f" root={self.root} fetches it"
        )

    def sexes(self) -> dict[str, str]:
        return file_corpus.sexes_in(self._base.parent / "speaker-info.txt", SEX)

    def _find(self) -> list[Path]:
        return sorted(self._base.glob(f"[!.]*/[!.]*_{self.microphone}.flac"))
