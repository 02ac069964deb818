"""The index of a sample store: which utterances it holds, and where."""

import csv
import io
from typing import NamedTuple

SAMPLES, INDEX = "samples.i16", "index.csv"
"""The files of a sample store."""


class Utterance(NamedTuple):
    """A row of the index: where a recording lies in the array, and at which level."""

    name: str
    speaker: str
    split: str
    start: int
    num_samples: int
    scale: float
    """The value of one int16 step; a power of two, so that 16-bit sources are stored exactly."""
    rms: float
    crc32: int
    """Checksum of its bytes in the array."""


def read_index(text: str) -> list[Utterance]:
    """The rows of `index.csv`.

    Raises:
        ValueError: it is none.
    """
    return [
        Utterance(name, speaker, split, int(start), int(num_samples), float(scale), float(rms), int(crc32))
        for name, speaker, split, start, num_samples, scale, rms, crc32 in list(csv.reader(io.StringIO(text)))[1:]
    ]
