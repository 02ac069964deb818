"""Decodes one audio file of any kind, and refuses one of which a part is missing."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from separation.data.audio_files import LIBSNDFILE_SUFFIXES
from separation.errors import InputError
from separation.runs.paths import printable

LARGEST_SIZE = 2**30
"""Samples times channels of a file, at most: 37 hours at 8 kHz, 4 GB of float32."""
RATES = (4000, 768_000)
"""In Hz. A header that says 1 Hz would make a file of megabytes gigabytes at 8 kHz."""
BLOCK = 2**18
STREAMED = 2**32 - 2**16
"""Sizes in headers from here on are of streams whose end wasn't known."""
OGG_PAGE = 27
"""Bytes of an Ogg page's header before its table of segments."""
MP3_SLACK = 2304
"""Samples by which an MP3 may differ from its header: two frames, as encoders count their delay or don't."""
WITHOUT_LENGTH = ("aac", "ac3", "eac3", "amr")
"""FFmpeg's names of formats of which it guesses a duration, from the bit rate."""
PYAV_SLACK = 0.08
"""Seconds by which other files may: durations of containers are rounded, and an encoder's delay is in them or not."""


@dataclass(frozen=True)
class _OpenFile:
    """A file whose header has been read."""

    rate: int
    channels: int
    blocks: Iterator[np.ndarray]
    """All samples, float32, shape (time, channel): how many there are, a damaged header says wrongly."""
    missing: Callable[[int], str]
    """How much of the file is missing, if anything, after so many samples."""


def read(path: Path) -> tuple[np.ndarray, int]:
    """Decodes one file: what libsndfile knows by it, everything else by PyAV (FFmpeg).

    Returns:
        float32 samples of shape (time, channel), full scale 1, and the rate in Hz.

    Raises:
        InputError: the file is missing, corrupt, cut off, empty or too long, or holds NaN or infinity.
    """
    with _opened(path) as opened:
        return _joined(path, _checked(path, opened), opened.channels), opened.rate


def read_blocks(path: Path) -> Iterator[np.ndarray]:
    """As `read`, of any length, block by block; what is wrong with the file is raised where it is reached."""
    with _opened(path) as opened:
        yield from _checked(path, opened)


def read_header(path: Path) -> tuple[int, int]:
    """Rate in Hz and number of channels of a file.

    Raises:
        InputError: the file is missing or isn't audio.
    """
    with _opened(path) as opened:
        return opened.rate, opened.channels


def _checked(path: Path, opened: _OpenFile) -> Iterator[np.ndarray]:
    """The samples, if they are numbers, and all of them."""
    name, decoded, finite = printable(path), 0, True
    for block in opened.blocks:
        decoded += len(block)
        finite = finite and bool(np.isfinite(block).all())
        yield block
    if missing := opened.missing(decoded):
        raise InputError(f"{name}: ends early ({missing}); replace it")
    if not decoded:
        raise InputError(f"{name}: holds no samples; replace or remove it")
    if not finite:
        raise InputError(f"{name}: holds NaN or infinite samples; replace or remove it")


@contextmanager
def _opened(path: Path) -> Iterator[_OpenFile]:
    name = printable(path)
    if path.is_symlink() and not path.exists():
        raise InputError(f"{name}: is a link to {path.readlink()}, which isn't there; mend or remove it")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{name}: is no file; give an audio file")
    try:
        with (_by_libsndfile if path.suffix.lower() in LIBSNDFILE_SUFFIXES else _by_pyav)(path) as opened:
            if not RATES[0] <= opened.rate <= RATES[1]:
                raise InputError(f"{name}: says its rate is {opened.rate} Hz, not {RATES[0]} to {RATES[1]}; replace it")
            yield opened
    except (OSError, RuntimeError, UnicodeError, MemoryError, OverflowError) as error:
        raise InputError(f"{name}: can't be read as audio ({error or 'damaged'}); replace or remove it") from error


@contextmanager
def _by_libsndfile(path: Path) -> Iterator[_OpenFile]:
    with soundfile.SoundFile(path if printable(path) == str(path) else os.fsencode(path)) as file:

        def blocks() -> Iterator[np.ndarray]:
            while len(block := file.read(BLOCK // file.channels + 1, dtype="float32", always_2d=True)):
                yield block

        def missing(decoded: int) -> str:
            return _missing_chunk(file) or _missing_frames(path, file, decoded)

        yield _OpenFile(file.samplerate, file.channels, blocks(), missing)


@contextmanager
def _by_pyav(path: Path) -> Iterator[_OpenFile]:
    """The first audio stream."""
    try:
        import av
    except ImportError as error:
        raise InputError(f"{printable(path)}: needs PyAV (pip install av); or convert it to FLAC") from error
    try:
        with open(path, "rb") as file, av.open(file, "r") as container:
            if not container.streams.audio:
                raise InputError(f"{printable(path)}: holds no audio; remove it")
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")
            frames = (out for frame in container.decode(stream) for out in planar.resample(frame))

            def missing(decoded: int) -> str:
                guessed = container.format.name in WITHOUT_LENGTH
                stated = 0.0 if guessed else (container.duration or 0) / av.time_base
                seconds = decoded / stream.rate
                return f"{seconds:.1f} of {stated:.1f} s" if seconds < stated - PYAV_SLACK else ""

            yield _OpenFile(stream.rate, stream.channels, (frame.to_ndarray().T for frame in frames), missing)
    except av.FFmpegError as error:
        raise RuntimeError(error.strerror) from error


def _joined(path: Path, blocks: Iterator[np.ndarray], channels: int) -> np.ndarray:
    """All blocks, shape (time, channel)."""
    kept, left = [np.zeros((0, channels), dtype=np.float32)], LARGEST_SIZE // channels
    for block in blocks:
        kept.append(block)
        left -= len(block)
        if left < 0:
            raise InputError(
                f"{printable(path)}: is longer than {LARGEST_SIZE // channels} samples; cut it into pieces"
            )
    return np.concatenate(kept)


def _missing_chunk(file: soundfile.SoundFile) -> str:
    """How much of the file's largest chunk is there, if its header says more; libsndfile goes on without a word.
    Headers of streams say nothing: the largest number, or none."""
    chunk = r"^\s*(?:data|SSND|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)"
    sizes = re.search(chunk, file.extra_info, re.MULTILINE)
    said, there = map(int, sizes.groups()) if sizes else (0, 0)
    return f"{there} of {said} bytes" if there < said < STREAMED else ""


def _missing_frames(path: Path, file: soundfile.SoundFile, decoded: int) -> str:
    """The same of formats without chunks."""
    if file.format in ("MPEG", "MP3") or path.suffix.lower() == ".mp3":
        short = decoded < file.frames - MP3_SLACK and _counts_frames(path)
        return f"{decoded} of {file.frames} samples" if short else ""
    if file.format == "OGG" and (missing := _missing_of_page(path)):
        return f"{missing} bytes of its last page are missing"
    return ""


def _counts_frames(path: Path) -> bool:
    """Whether an MP3 file says how many frames it has; of others libsndfile's number is a guess."""
    with open(path, "rb") as file:
        tag = file.read(10)
        if tag[:3] == b"ID3":  # its length in four times seven bits
            file.seek(10 + sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True)))
        else:
            file.seek(0)
        first = file.read(4096)
    return any(header in first for header in (b"Xing", b"Info", b"VBRI"))


def _missing_of_page(path: Path) -> int:
    """How many bytes the last page of an Ogg file lacks."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**17))  # a page has at most 65,307 bytes
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    table = page[OGG_PAGE : OGG_PAGE + page[OGG_PAGE - 1]] if len(page) >= OGG_PAGE else b""
    return max(0, OGG_PAGE + len(table) + sum(table) - len(page))
