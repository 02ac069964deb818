"""Some of the scored mixtures as audio files: the best, the median and the worst."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from torch import Tensor

from separation.data import audio
from separation.evaluation.summary import Row, by_mixture
from separation.runs.untrusted_files import check_links

TITLES = {0.0: "worst", 50.0: "median", 100.0: "best"}
FILES = re.compile(r"(mixture|reference_\d+|estimate_\d+)\.wav")
"""What `write_audio` is given to write."""


class Example(NamedTuple):
    """A mixture that becomes audio."""

    split: str
    which: str
    """`best`, `median`, `worst`, or its place between, as in `percentile_75`."""
    mixture: str
    number: int
    """Of the mixture in its list."""
    si_sdr_improvement: float
    """In dB, mean over the sources."""

    @property
    def folder(self) -> str:
        """Below the run's `audio`."""
        return f"{self.split}/{self.which}_{self.mixture}"


def choose_examples(rows: Sequence[Row], count: int) -> list[Example]:
    """Mixtures from the best to the worst, by mean SI-SDR improvement, in equal steps of rank: of three the best, the
    median and the worst; of one the median. Those without a score don't count.

    Args:
        rows: of one split, in the list's order.
    """
    scores = [fmean(row["si_sdr_improvement"] for row in group) for group in by_mixture(rows).values()]
    ranked = sorted((score, index) for index, score in enumerate(scores) if not math.isnan(score))
    places = [50.0] if count == 1 else np.linspace(100, 0, min(count, len(ranked))).tolist()
    names = list(by_mixture(rows))
    examples = []
    for place in places:
        score, index = ranked[round(place / 100 * (len(ranked) - 1))]
        which = TITLES.get(place, f"percentile_{place:.0f}")
        examples.append(Example(rows[0]["split"], which, names[index], index, score))
    return examples


def write_audio(folder: Path, signals: dict[str, Tensor], sample_rate: int) -> None:
    """Writes a WAV file for each signal, shape (time,)."""
    check_links([folder, *folder.parents[:2]])
    folder.mkdir(parents=True, exist_ok=True)
    for name, signal in signals.items():
        audio.write(folder / f"{name}.wav", signal.numpy(), sample_rate)


def remove_audio(folder: Path) -> None:
    """Removes an earlier scoring's files, and the folders that they leave empty."""
    check_links([folder])
    for path, _, names in os.walk(folder, topdown=False):  # doesn't follow links
        for name in filter(FILES.fullmatch, names):
            (Path(path) / name).unlink()
        if not os.listdir(path):
            os.rmdir(path)
