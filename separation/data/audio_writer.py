"""Audio files that are written block by block."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from separation.errors import InputError
from separation.runs.atomic_files import replacing, why
from separation.runs.paths import printable

FORMATS = {
    "wav": ("WAV", "FLOAT"),
    "wav16": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_24"),
    "flac16": ("FLAC", "PCM_16"),
}
"""libsndfile's names of container and samples."""
LARGEST_WAV = 2**32 - 2**16
"""Bytes; RF64 is WAV with 64-bit sizes (EBU Tech 3306)."""


def suffix(audio_format: str) -> str:
    """Of files of one of the formats, `.wav` or `.flac`."""
    return f".{FORMATS[audio_format][0].lower()}"


class AudioWriter:
    """Writes blocks to an open file.

    Attributes:
        num_clipped: samples so far that the format can't hold: beyond full scale, where it has integers.
    """

    def __init__(self, path: Path, file: soundfile.SoundFile) -> None:
        self.path = path
        self.num_clipped = 0
        self._file = file

    def write(self, block: np.ndarray) -> None:
        """Writes samples of shape (time, channel).

        Raises:
            InputError: they are NaN or infinite.
        """
        if not np.isfinite(block).all():
            raise InputError(
                f"{printable(self.path)}: not written, since the samples are NaN or infinite; did the training diverge?"
            )
        if self._file.subtype != "FLOAT":
            self.num_clipped += int((np.abs(block) > 1).sum())
        self._file.write(block)


@contextmanager
def writing(path: Path, rate: int, channels: int, num_samples: int, audio_format: str) -> Iterator[AudioWriter]:
    """Opens a file for writing; it appears whole when the block ends, or not at all.

    Args:
        num_samples: that there will be, of each channel.
        audio_format: one of `FORMATS`.

    Raises:
        InputError: it can't be written, or not in this format.
    """
    container, subtype = FORMATS[audio_format]
    if container == "WAV" and num_samples * channels * (4 if subtype == "FLOAT" else 2) > LARGEST_WAV:
        container = "RF64"
    try:
        with (
            replacing(path) as temporary,
            soundfile.SoundFile(os.fsencode(temporary), "w", rate, channels, subtype, format=container) as file,
        ):
            yield AudioWriter(path, file)
    except (OSError, soundfile.LibsndfileError) as error:
        raise InputError(
            f"{printable(path)}: can't be written as {audio_format} {why(error, path.parent, 'output or format')}"
        ) from error
