"""Audio files in and out: any rate and channel count in, mono float32 at one rate out."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from separation.errors import InputError
from separation.runs.atomic_files import replacing

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"}


SHORTEST_SECONDS = 0.1
LARGEST_SIZE = 2**30
"""Samples times channels of a file, at most: 37 hours at 8 kHz, 4 GB of float32."""
RATES = (4000, 768_000)
"""In Hz. A header that says 1 Hz would make a file of megabytes gigabytes at 8 kHz."""
BLOCK = 2**18
STREAMED = 2**32 - 2**16
"""Sizes in headers from here on are of streams whose end wasn't known."""

Decoder = Callable[[Path], tuple[np.ndarray, int]]
"""A file to samples of shape (time, channel) and their rate."""
Resampler = Callable[[np.ndarray, int, int], np.ndarray]
"""Samples, their rate and another to samples at that."""


def audio_files(root: Path) -> list[Path]:
    """Every audio file below `root`, sorted by path, hidden files left out."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read(path: Path) -> tuple[np.ndarray, int]:
    """Decodes one file.

    Returns:
        float32 samples of shape (time, channel), full scale 1, and the rate in Hz.

    Raises:
        InputError: the file is missing, corrupt, empty or too long, or holds NaN or infinity.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if not RATES[0] <= rate <= RATES[1]:
                raise InputError(f"{path}: says its rate is {rate} Hz, not {RATES[0]} to {RATES[1]}; replace it")
            samples = _decode(path, file)
            if cut := _cut_off(file):
                raise InputError(f"{path}: ends early ({cut}); replace it")
    except (OSError, RuntimeError, UnicodeError, MemoryError, OverflowError) as error:
        raise InputError(f"{path}: can't be read as audio ({error}); replace or remove it") from error
    if len(samples) == 0:
        raise InputError(f"{path}: holds no samples; replace or remove it")
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds NaN or infinite samples; replace or remove it")
    return samples, rate


def _cut_off(file: soundfile.SoundFile) -> str:
    """How much of a WAV file is there, if its header says more; libsndfile goes on without a word. Headers of streams
    say nothing: the largest number, or none."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    said, there = map(int, sizes.groups()) if sizes else (0, 0)
    return f"{there} of {said} bytes" if there < said < STREAMED else ""


def _decode(path: Path, file: soundfile.SoundFile) -> np.ndarray:
    """All samples, in blocks: how many there are, a damaged header says wrongly. Shape (time, channel)."""
    blocks, left = [], LARGEST_SIZE // file.channels
    while len(block := file.read(BLOCK // file.channels + 1, dtype="float32", always_2d=True)):
        blocks.append(block)
        left -= len(block)
        if left < 0:
            raise InputError(f"{path}: is longer than {LARGEST_SIZE // file.channels} samples; cut it into pieces")
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), dtype=np.float32)


def resample_polyphase(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Resamples along the first axis, shape (time, ...), as LibriMix's generator does, by SciPy: its
    short filter lets some of what lies above half the target rate through."""
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, target_rate)
    return resample_poly(samples, target_rate // divisor, rate // divisor) if rate != target_rate else samples


def resample(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Resamples along the first axis, shape (time, ...), by soxr: faster than torchaudio's resampler (20 times from
    22,050 to 8,000 Hz, without bound where the rates share no divisor), and 36 dB closer to a tone at 3 kHz.

    Raises:
        InputError: there would be too many samples.
    """
    if samples.size / rate * target_rate > LARGEST_SIZE:
        raise InputError(
            f"{len(samples)} samples at {rate} Hz: too many at {target_rate} Hz; cut the recording in pieces"
        )
    return soxr.resample(samples, rate, target_rate) if rate != target_rate else samples


def trim(samples: np.ndarray) -> np.ndarray:
    """Without the silence (60 dB below the peak) at both ends, so that a mixture cut short holds something of each
    source; shape (time,)."""
    level = np.abs(samples)
    audible = np.flatnonzero(level > 1e-3 * level.max())
    return samples[audible[0] : audible[-1] + 1]


def read_mono(
    path: Path,
    sample_rate: int,
    expected_rate: int | None = None,
    resample: Resampler = resample,
    decode: Decoder = read,
    may_be_silent: bool = False,
) -> np.ndarray:
    """Decodes one file to mono (the mean of its channels) at `sample_rate` Hz, shape (time,).

    Args:
        expected_rate: of the file, in Hz; None: any.
        resample: by what.
        decode: by what.
        may_be_silent: every sample may be zero.

    Raises:
        InputError: as `read`, or its rate is another, or it is shorter than 0.1 s, or every sample is zero.
    """
    samples, rate = decode(path)
    if expected_rate not in (None, rate):
        raise InputError(f"{path}: says its rate is {rate} Hz; this corpus has {expected_rate} Hz, so replace it")
    if len(samples) < SHORTEST_SECONDS * rate:
        raise InputError(f"{path}: is shorter than {SHORTEST_SECONDS} s; replace or remove it")
    mono = samples.mean(axis=1)
    if not may_be_silent and not mono.any():
        raise InputError(f"{path}: is silent (every sample is zero); replace or remove it")
    return resample(mono, rate, sample_rate)


def write(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Writes 32-bit float WAV, which can't clip; the file appears whole or not at all.

    Args:
        samples: shape (time,) or (time, channel).
    """
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: not written, since the samples are NaN or infinite; did the training diverge?")
    with replacing(path) as temporary:
        soundfile.write(temporary, samples, sample_rate, subtype="FLOAT", format="WAV")
