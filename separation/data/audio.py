"""Audio files in and out: any rate and channel count in, mono float32 at one rate out."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from separation.data.decoding import LARGEST_SIZE, read
from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.paths import printable

SHORTEST_SECONDS = 0.1
AUDIBLE = 1e-3
"""60 dB below the peak."""
CANCELLED = 1e-2
"""Of the channels' power: what is left in their mean of channels with opposite signs is their noise."""
OFFSET = 0.05
"""Of the RMS without it: a smaller one, as the mean of clean speech has, stays."""

Decoder = Callable[[Path], tuple[np.ndarray, int]]
"""A file to samples of shape (time, channel) and their rate."""
Resampler = Callable[[np.ndarray, int, int], np.ndarray]
"""Samples, their rate and another to samples at that."""


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


def audible(samples: np.ndarray) -> tuple[int, int]:
    """First sample that isn't silence (60 dB below the peak), and the one after the last; shape (time,)."""
    level = np.abs(samples)
    loud = np.flatnonzero(level > AUDIBLE * level.max())
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, 0)


def trim(samples: np.ndarray) -> np.ndarray:
    """Without the silence at both ends, so that a mixture cut short holds something of each source; shape (time,)."""
    first, end = audible(samples)
    return samples[first:end]


def remove_offset(samples: np.ndarray) -> np.ndarray:
    """Without a microphone's offset, shape (time,): it is no speech, but counts in levels and scores. One that is too
    small to matter stays."""
    mean = samples.mean(dtype=np.float64)
    return samples - np.float32(mean) if abs(mean) > OFFSET * samples.std(dtype=np.float64) else samples


def read_mono(
    path: Path,
    sample_rate: int,
    expected_rate: int | None = None,
    resample: Resampler = resample,
    decode: Decoder = read,
    may_be_silent: bool = False,
    keep_offset: bool = True,
) -> np.ndarray:
    """Decodes one file to mono (the mean of its channels) at `sample_rate` Hz, shape (time,).

    Args:
        expected_rate: of the file, in Hz; a copy at a lower one will do down to `sample_rate`. None: any.
        resample: by what.
        decode: by what.
        may_be_silent: every sample may be zero.
        keep_offset: false: see `remove_offset`.

    Raises:
        InputError: as `read`, or its rate is another, or it is shorter than 0.1 s, silence at its ends not counted, or
            every sample is zero.
    """
    samples, rate = decode(path)
    name = printable(path)
    if expected_rate is not None and rate != expected_rate and not sample_rate <= rate < expected_rate:
        raise InputError(f"{name}: says its rate is {rate} Hz; this corpus has {expected_rate} Hz, so replace it")
    if len(samples) < SHORTEST_SECONDS * rate:
        raise InputError(f"{name}: is shorter than {SHORTEST_SECONDS} s; replace or remove it")
    mono = samples.mean(axis=1)
    if np.square(mono).mean() < CANCELLED * np.square(samples).mean():
        raise InputError(f"{name}: is silent in the mean of its channels, which cancel each other; keep one of them")
    if not keep_offset:
        mono = remove_offset(mono)
    if not may_be_silent:
        if not mono.any():
            raise InputError(f"{name}: is silent (every sample is the same); replace or remove it")
        first, end = audible(mono)
        if end - first < SHORTEST_SECONDS * rate:
            raise InputError(f"{name}: holds less than {SHORTEST_SECONDS} s that isn't silence; replace or remove it")
    return resample(mono, rate, sample_rate)


def write(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Writes 32-bit float WAV, which can't clip; the file appears whole or not at all.

    Args:
        samples: shape (time,) or (time, channel).
    """
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: not written, since the samples are NaN or infinite; did the training diverge?")
    wav = io.BytesIO()  # libsndfile doesn't say why it can't write a file
    soundfile.write(wav, samples, sample_rate, subtype="FLOAT", format="WAV")
    with replacing(path) as temporary:
        temporary.write_bytes(wav.getbuffer())
