"""The sample store: every recording of a corpus in one flat int16 array on disk, decoded and resampled once.

A store is a folder `{corpus}-{fingerprint}` with `samples.i16` (little-endian), `index.csv` (a row a recording) and
`source.json` (what the fingerprint is made of). It is written under a temporary name and renamed, so that whatever
bears the final name is complete.
"""

import csv
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock

from separation.data.corpus import Corpus, Recording
from separation.errors import InputError

log = logging.getLogger(__name__)

FORMAT = 1


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


class SampleStore:
    """A memory-mapped array of samples and its index.

    Attributes:
        utterances: the index.
        on_device: the same samples in a device's memory, int16, or None (see `to_device`).
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.on_device: torch.Tensor | None = None
        try:
            self.samples = np.memmap(folder / "samples.i16", dtype="<i2", mode="r")
            with open(folder / "index.csv", newline="", encoding="utf-8") as file:
                self.utterances = [
                    Utterance(name, speaker, split, int(start), int(num_samples), float(scale), float(rms))
                    for name, speaker, split, start, num_samples, scale, rms in list(csv.reader(file))[1:]
                ]
            whole = len(self.samples) == sum(utterance.num_samples for utterance in self.utterances)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: is damaged ({error}); remove it to build it again") from error
        if not whole or not all(utterance.rms > 0 for utterance in self.utterances):
            raise InputError(f"{folder}: is damaged (index.csv and samples.i16 don't fit); remove it to build it again")

    def to_device(self, device: torch.device) -> None:
        """Keeps all samples in a device's memory too.

        Raises:
            InputError: they don't fit.
        """
        try:
            self.on_device = torch.from_numpy(np.array(self.samples, dtype=np.int16)).to(device)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"trainer.store_on_device=true: {device} hasn't {self.samples.nbytes / 1e9:.1f} GB free for the corpus;"
                " use false"
            ) from error

    def digest(self) -> str:
        """A fingerprint of what the store holds: names, speakers, splits, lengths and levels."""
        return hashlib.sha256(repr(self.utterances).encode()).hexdigest()

    def read(self, utterance: Utterance, offset: int, num_samples: int) -> np.ndarray:
        """`num_samples` samples from `offset` on at the recording's level, float32, shape (num_samples,)."""
        first = utterance.start + offset
        return self.samples[first : first + num_samples] * np.float32(utterance.scale)


def _place(corpus: Corpus) -> tuple[Path, str]:
    """The folder of a corpus's store, and what its fingerprint is made of."""
    source = {"format": FORMAT, "corpus": corpus.name, "sample_rate": corpus.sample_rate, **corpus.fingerprint()}
    text = json.dumps(source, sort_keys=True)
    return Path(corpus.store) / f"{corpus.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}", text


def is_built(corpus: Corpus) -> bool:
    """Whether the corpus's store exists."""
    return _place(corpus)[0].is_dir()


def open_store(corpus: Corpus) -> SampleStore:
    """The corpus's store, built first where it doesn't exist yet.

    Raises:
        InputError: a recording can't be used, or the store can't be written.
    """
    folder, text = _place(corpus)
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):  # runs that start together build it once
                if not folder.is_dir():
                    _build(folder, text, corpus.recordings())
        except OSError as error:
            raise InputError(f"data.store={corpus.store}: can't write {error.filename or folder} ({error})") from error
        size = (folder / "samples.i16").stat().st_size
        log.info("Sample store %s: %.1f MB, %.1f min", folder, size / 1e6, size / 2 / corpus.sample_rate / 60)
    return SampleStore(folder, corpus.sample_rate)


def _build(folder: Path, source: str, recordings: Iterable[Recording]) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a process that was killed while it built
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        with (
            open(temporary / "samples.i16", "wb") as samples,
            open(temporary / "index.csv", "w", newline="", encoding="utf-8") as index,
        ):
            rows = csv.writer(index)
            rows.writerow(Utterance._fields)
            for recording in recordings:
                if not recording.samples.any():
                    raise InputError(f"{recording.name}: is silent and can't be brought to a level; remove it")
                start = samples.tell() // 2
                values, scale = _quantize(recording.samples)
                samples.write(values.tobytes())
                rms = math.sqrt(np.mean(np.square(recording.samples, dtype=np.float64)))
                rows.writerow([*recording[:3], start, len(values), scale, rms])
            if samples.tell() == 0:
                raise InputError("data: the corpus holds no usable recordings")
            for file in (samples, index):
                file.flush()
                os.fsync(file.fileno())
        (temporary / "source.json").write_text(source, encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _quantize(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """int16 values and their step: the smallest power of two at which the peak fits."""
    peak = float(np.abs(samples).max())
    step = 2.0 ** (math.frexp(peak)[1] - 15)
    if peak > 32767 * step:
        step *= 2
    return np.round(samples / np.float32(step)).astype("<i2"), step
