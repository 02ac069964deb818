"""The sample store: every recording of a corpus in one flat int16 array on disk, decoded and resampled once.

A store is a folder `{corpus}-{fingerprint}` with `samples.i16` (little-endian), `index.csv` (a row a recording) and
`source.json` (what the fingerprint is made of). It is written under another name and renamed, so that whatever bears
the final name is complete.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from separation.data.corpora.corpus import Corpus
from separation.data.store_writer import StoreWriter
from separation.data.user_cache import user_cache
from separation.data.utterances import INDEX, SAMPLES, Utterance, read_index
from separation.errors import InputError
from separation.runs.atomic_files import why, write_text
from separation.runs.paths import user_path

log = logging.getLogger(__name__)

FORMAT = 3


class SampleStore:
    """An array of samples on disk and its index.

    Attributes:
        utterances: the index.
        on_device: the same samples in a device's memory, int16, or None (see `to_device`).
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.folder = folder
        self.on_device: torch.Tensor | None = None
        try:
            # Read, not mapped: of a mapped file every page that was ever touched counts as the process's memory.
            self._file = open(folder / SAMPLES, "rb", buffering=0)  # noqa: SIM115
            self.utterances = read_index((folder / INDEX).read_text(encoding="utf-8"))
            self.num_samples = os.fstat(self._file.fileno()).st_size // 2
        except PermissionError as error:
            raise InputError(
                f"{folder}: can't be read ({error.strerror}); have its owner allow it, or choose another data.store"
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: is damaged ({error}); remove it to build it again") from error
        whole = self.num_samples == sum(utterance.num_samples for utterance in self.utterances)
        if not whole or not all(utterance.rms > 0 for utterance in self.utterances):
            raise InputError(f"{folder}: is damaged ({INDEX} and {SAMPLES} don't fit); remove it to build it again")

    def to_device(self, device: torch.device) -> None:
        """Keeps all samples in a device's memory too.

        Raises:
            InputError: they don't fit.
        """
        try:
            self.on_device = torch.from_numpy(self._steps(0, self.num_samples)).to(device)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"trainer.store_on_device=true: {device} hasn't {2 * self.num_samples / 1e9:.1f} GB free for the"
                " corpus; use false"
            ) from error

    def digest(self) -> str:
        """A fingerprint of what the store holds: names, speakers, splits, lengths, levels and checksums."""
        return hashlib.sha256(repr(self.utterances).encode()).hexdigest()

    def read(self, utterance: Utterance, offset: int, num_samples: int) -> np.ndarray:
        """`num_samples` samples from `offset` on at the recording's level, float32, shape (num_samples,)."""
        samples = np.empty(num_samples, dtype=np.float32)
        self.read_into(samples, utterance, offset)
        return samples

    def read_into(self, target: np.ndarray, utterance: Utterance, offset: int, gain: float = 1.0) -> None:
        """Fills `target`, float32 of shape (time,), with samples from `offset` on times a gain."""
        steps = self._steps(utterance.start + offset, len(target))
        # One factor is as exact as two: the scale is a power of two.
        np.multiply(steps, np.float32(gain) * np.float32(utterance.scale), out=target)

    def _steps(self, first: int, count: int) -> np.ndarray:
        """int16 values from the array."""
        steps = np.empty(count, dtype="<i2")
        buffer = steps.view(np.uint8).data
        read = 0
        while read < len(buffer):
            try:
                number = os.preadv(self._file.fileno(), [buffer[read:]], 2 * first + read)
            except OSError as error:
                raise InputError(f"{self.folder}: can't be read ({error}); remove it to build it again") from error
            if number == 0:
                raise InputError(f"{self.folder}: is damaged ({SAMPLES} ends too early); remove it to build it again")
            read += number
        return steps

    def damaged(self) -> Iterator[tuple[Utterance, bool]]:
        """Every utterance, and whether its samples are others than those that were stored."""
        for utterance in self.utterances:
            steps = self._steps(utterance.start, utterance.num_samples)
            yield utterance, zlib.crc32(steps.tobytes()) != utterance.crc32


def store_root(store: str | None) -> Path:
    """The folder that `data.store` means: the one that it names, or (null) one in the user's cache."""
    return user_cache() / "stores" if store is None else user_path("data.store", store)


def _place(corpus: Corpus) -> tuple[Path, str]:
    """The folder of a corpus's store, and what its fingerprint is made of."""
    source = {"format": FORMAT, "corpus": corpus.name, "sample_rate": corpus.sample_rate, **corpus.fingerprint()}
    text = json.dumps(source, sort_keys=True)
    return store_root(corpus.store) / f"{corpus.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}", text


def is_built(corpus: Corpus) -> bool:
    """Whether the corpus's store exists."""
    return _place(corpus)[0].is_dir()


def open_store(corpus: Corpus) -> SampleStore:
    """The corpus's store, built first where it doesn't exist yet.

    Raises:
        InputError: a recording can't be used, or the store can't be written.
    """
    folder, text = _place(corpus)
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder):  # runs that start together build it once
                if not folder.is_dir():
                    _remove_partials(folder, corpus.name)
                    _mention_others(folder, corpus)
                    _build(folder, text, corpus)
    except OSError as error:
        place = error.filename or folder
        raise InputError(
            f"data.store={folder.parent}: can't write {place} {why(error, folder.parent, 'folder')}"
        ) from error
    store = SampleStore(folder, corpus.sample_rate)
    minutes = store.num_samples / corpus.sample_rate / 60
    log.info("Sample store %s: %.1f MB, %.1f min", folder, 2 * store.num_samples / 1e6, minutes)
    return store


# Users who share a folder build apart, each under names of their own: nobody's lock, nor what a build left behind,
# is in another's way. Whoever ends first has built the store for all.


def _partial(folder: Path) -> Path:
    """Where this user's build of a store is under way."""
    return folder.with_name(f".{folder.name}.{os.geteuid()}.partial")


def lock_of(folder: Path) -> FileLock:
    """Held by this user's process that builds or removes a store."""
    return FileLock(folder.with_name(f"{folder.name}.{os.geteuid()}.lock"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Sample store %s: another process builds it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_partials(folder: Path, name: str) -> None:
    """Removes what this user's builds of other settings or files of the corpus left, unless they are under way."""
    ending = f".{os.geteuid()}.partial"
    for partial in folder.parent.glob(f".{name}-*{ending}"):
        other = folder.with_name(partial.name[1:].removesuffix(ending))
        if other != folder:
            with suppress(OSError), lock_of(other).acquire(timeout=0):
                shutil.rmtree(partial, ignore_errors=True)


def _mention_others(folder: Path, corpus: Corpus) -> None:
    """Says that a store is built although there are some: of other settings or files, or where version 0.1 wrote them
    by default."""
    others = {place: list(place.glob(f"{corpus.name}-*/{SAMPLES}")) for place in (folder.parent, Path("cache"))}
    there = ", ".join(f"{len(stores)} in {place}" for place, stores in others.items() if stores)
    if there:
        remark = "kept for other files, settings or versions (scripts/store.py lists and removes them)"
        log.info("Building the sample store %s: %s are %s", folder, there, remark)


def _build(folder: Path, source: str, corpus: Corpus) -> None:
    """Builds a store. An interrupted build resumes; a failed one leaves nothing."""
    partial = _partial(folder)
    try:
        writer = StoreWriter(partial)
        try:
            if writer.utterances:
                log.info("Going on with the sample store: %d recordings are there", len(writer.utterances))
            for recording in corpus.recordings({utterance.name for utterance in writer.utterances}):
                writer.add(recording)
            writer.sync()
        finally:
            writer.close()
        if not writer.utterances:
            raise InputError("data: the corpus holds no usable recordings")
        write_text(partial / "source.json", source)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(partial, ignore_errors=True)  # another user has built it meanwhile
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise
