"""A sample store under construction: what its index lists is on the disk, so that an interrupted build can resume."""

import csv
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np

from separation.data.corpora.corpus import Recording
from separation.data.utterances import INDEX, SAMPLES, Utterance, read_index
from separation.errors import InputError
from separation.runs.atomic_files import replacing

SYNC_BYTES = 2**26


class StoreWriter:
    """Appends recordings to `samples.i16` and `index.csv` of a folder, from where an earlier process was cut off.

    Rows are written after their samples have been synced to the disk, some minutes of speech at a time; what follows
    the last whole row whose checksum is right is thrown away when the folder is opened again.

    Attributes:
        utterances: what is stored.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._samples = open(folder / SAMPLES, "a+b")  # noqa: SIM115
        self.utterances = _whole_rows(folder)
        self._end = sum(2 * utterance.num_samples for utterance in self.utterances)
        self._samples.truncate(self._end)
        with replacing(folder / INDEX) as temporary, open(temporary, "w", newline="", encoding="utf-8") as index:
            csv.writer(index).writerows([Utterance._fields, *self.utterances])
        self._index = open(folder / INDEX, "a", newline="", encoding="utf-8")  # noqa: SIM115
        self._rows = csv.writer(self._index)
        self._waiting: list[Utterance] = []
        self._unsynced = 0

    def add(self, recording: Recording) -> None:
        """Appends a recording.

        Raises:
            InputError: it is silent.
        """
        if not recording.samples.any():
            raise InputError(f"{recording.name}: is silent and can't be brought to a level; remove it")
        values, scale = _quantize(recording.samples)
        data = values.tobytes()
        rms = math.sqrt(np.mean(np.square(recording.samples, dtype=np.float64)))
        self._samples.write(data)
        self._waiting.append(Utterance(*recording[:3], self._end // 2, len(values), scale, rms, zlib.crc32(data)))
        self._end += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """What has been added stays, whatever happens to the process."""
        _sync(self._samples)
        self._rows.writerows(self._waiting)
        _sync(self._index)
        self.utterances += self._waiting
        self._waiting, self._unsynced = [], 0

    def close(self) -> None:
        """Ends writing; what wasn't synced may be lost."""
        self._samples.close()
        self._index.close()


def _sync(file: io.BufferedIOBase | io.TextIOBase) -> None:
    file.flush()
    os.fsync(file.fileno())


def _whole_rows(folder: Path) -> list[Utterance]:
    """The rows of an index that may end in the middle of one, as far as the samples are theirs."""
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
        rows = read_index(text[: text.rfind("\n") + 1])
    except (OSError, ValueError):
        return []
    end = 0
    with open(folder / SAMPLES, "rb") as samples:
        for number, row in enumerate(rows):
            data = samples.read(2 * max(0, row.num_samples))
            if row.start != end or len(data) != 2 * row.num_samples or zlib.crc32(data) != row.crc32:
                return rows[:number]
            end += row.num_samples
    return rows


def _quantize(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """int16 values and their step: the smallest power of two at which they fit, from -32768 to 32767."""
    mantissa, exponent = math.frexp(float(np.abs(samples).max()))
    step = 2.0 ** (exponent - 15 - (mantissa == 0.5))
    if samples.max() > 32767 * step:
        step *= 2
    return np.round(samples / np.float32(step)).astype("<i2"), step
