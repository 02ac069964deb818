"""Measures all of a corpus: its files' headers, its store, and whether mixtures are the sum of their sources."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import soundfile
from tqdm import tqdm

from separation.data import audio
from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import PlainCorpus
from separation.data.corpora.corpus import Corpus, ListedMixture
from separation.data.mixtures import MixtureList
from separation.data.sample_store import SampleStore
from separation.data.scored_parts import (
    FRAME_SECONDS,
    SHIFT_SECONDS,
    ScoredParts,
    active_power,
    correlations,
    frame_powers,
    in_words,
)
from separation.data.utterances import Utterance
from separation.errors import InputError

T = TypeVar("T")

TOLERANCE, ROUNDING = 1e-2, 1.5 / 2**15
"""A mixture isn't the sum of its sources if the RMS of their difference is more than 1% of its own, and rounding to 16
bits."""
CLIPPED_PEAK, CLIPPED_RUN = 0.999, 3
"""See `is_clipped`."""
QUIET_PERCENT = 5
"""See `noise_floor`."""
LEAST_DB = -120.0
"""What lower levels show as, zero included."""


class SumCheck(NamedTuple):
    """How a mixture's file compares with the sum of its recordings."""

    error_db: float
    """RMS of the difference, in dB of the mixture's; infinite where they can't be compared."""
    problem: str
    """Empty where it is the sum; otherwise names the file and says why it isn't."""


class Scored(NamedTuple):
    """What the part of a test mixture that is scored is like."""

    name: str
    levels_db: list[float]
    """See `ScoredParts.levels`."""
    correlation: float
    """The largest between two of its sources, without its sign."""
    problem: str
    """Why it can't be scored; empty where it can."""


class Measured(NamedTuple):
    """What a recording in the store is like."""

    utterance: Utterance
    is_damaged: bool
    is_clipped: bool
    noise_floor_db: float
    """See `noise_floor`."""
    offset: float
    """Its mean, of what is left without it (RMS)."""


@dataclass(frozen=True)
class Inspection:
    """A corpus, measured.

    Attributes:
        corpus: which one.
        store: its samples.
        lists: the mixtures of the splits that list some.
        formats: how many source files have each rate in Hz and number of channels.
        recordings: what is in the store.
        sums: of each split's mixtures that are files.
        scored: of the test splits' mixtures, drawn ones too.
    """

    corpus: Corpus
    store: SampleStore
    lists: Mapping[str, Sequence[ListedMixture]]
    formats: Counter[tuple[int, int]]
    recordings: list[Measured]
    sums: dict[str, list[SumCheck]]
    scored: dict[str, list[Scored]]


def inspect(
    corpus: Corpus,
    store: SampleStore,
    lists: Mapping[str, Sequence[ListedMixture]],
    tests: Sequence[MixtureList] = (),
) -> Inspection:
    """Reads everything, with progress bars.

    Args:
        lists: what `corpus.mixture_lists` returned.
        tests: the mixtures that models are scored on.
    """
    formats = source_formats(corpus)
    recordings = list(_with_bar(measure(store), "Recordings", len(store.utterances)))
    sums = {}
    for split, rows in lists.items():
        mixtures = of_files(rows)
        sums[split] = list(_with_bar(check_sums(corpus, store, mixtures), f"Mixtures: {split}", len(mixtures)))
    scored = {each.split: list(_with_bar(scored_parts(each), f"Scored: {each.split}", len(each))) for each in tests}
    return Inspection(corpus, store, lists, formats, recordings, sums, scored)


def _with_bar(items: Iterable[T], title: str, count: int) -> Iterable[T]:
    return tqdm(items, desc=title, total=count, disable=None, leave=False)


def source_formats(corpus: Corpus) -> Counter[tuple[int, int]]:
    """How many of a corpus's files have each rate in Hz and number of channels.

    Those that soundfile can't open are left out. Empty for a corpus that isn't made of files.
    """
    if not isinstance(corpus, file_corpus.FileCorpus):
        return Counter()
    root = file_corpus.corpus_root(corpus.root)
    paths = sorted({root / name for name, *_ in corpus.fingerprint().get("files", [])})
    with ThreadPoolExecutor(file_corpus.num_workers()) as pool:
        return Counter(kind for kind in _with_bar(pool.map(_format, paths), "Source files", len(paths)) if kind)


def _format(path: Path) -> tuple[int, int] | None:
    try:
        info = soundfile.info(path)
    except (OSError, RuntimeError):
        return None
    return info.samplerate, info.channels


def of_files(rows: Iterable[ListedMixture]) -> list[ListedMixture]:
    """The first row of each mixture file."""
    first: dict[Path, ListedMixture] = {}
    for row in rows:
        if row.file is not None:
            first.setdefault(row.file, row)
    return list(first.values())


def check_sums(corpus: Corpus, store: SampleStore, rows: Sequence[ListedMixture]) -> Iterator[SumCheck]:
    """Compares mixtures' files with the sums of their whole recordings, on all cores.

    Args:
        rows: each has a `file`.
    """
    recordings = {utterance.name: utterance for utterance in store.utterances}

    def check(row: ListedMixture) -> SumCheck:
        assert row.file is not None
        try:
            mixture = _read(corpus, row.file)
        except InputError as error:
            return SumCheck(math.inf, str(error))
        utterances = [recordings[name] for name in row.recordings]
        lengths = {utterance.num_samples for utterance in utterances}
        if lengths != {len(mixture)}:
            expected = ", ".join(map(str, sorted(lengths)))
            return SumCheck(math.inf, f"{row.file} ({len(mixture)} samples, its sources {expected})")
        difference = mixture.astype(np.float32)
        for utterance, gain in zip(utterances, row.gains, strict=True):
            difference -= np.float32(gain) * store.read(utterance, 0, utterance.num_samples)
        error_db = decibels(rms(difference) / rms(mixture))
        is_sum = rms(difference) <= TOLERANCE * rms(mixture) + ROUNDING
        return SumCheck(error_db, "" if is_sum else f"{row.file} (off by {error_db:.1f} dB)")

    with ThreadPoolExecutor(file_corpus.num_workers()) as pool:
        yield from pool.map(check, rows)


def _read(corpus: Corpus, path: Path) -> np.ndarray:
    """A mixture as its sources are read, shape (time,)."""
    return corpus.read(path) if isinstance(corpus, PlainCorpus) else audio.read_mono(path, corpus.sample_rate)


def measure(store: SampleStore) -> Iterator[Measured]:
    """Looks at every recording in a store."""
    for utterance, is_damaged in store.damaged():
        samples = store.read(utterance, 0, utterance.num_samples)
        floor = noise_floor(samples, store.sample_rate)
        yield Measured(utterance, is_damaged, is_clipped(samples), floor, offset(samples))


def scored_parts(mixtures: MixtureList) -> Iterator[Scored]:
    """Looks at every mixture of a test list over the part that is scored."""
    parts = ScoredParts(mixtures)
    for index in range(len(mixtures)):
        batch = mixtures.whole([index])
        sources = batch.sources[0].numpy()
        reach = round(SHIFT_SECONDS * mixtures.store.sample_rate)
        correlation = max(abs(value) for *_, value in correlations(sources, reach))
        problem = in_words(parts.problems(sources, index))
        yield Scored(batch.names[0], parts.levels(sources, index), correlation, problem)


def offset(samples: np.ndarray) -> float:
    """A recording's mean, shape (time,), over the RMS of what is left without it: 0.4 is a microphone's 0.02 beside
    speech of level 0.05."""
    spread = float(samples.std(dtype=np.float64))
    return abs(float(samples.mean(dtype=np.float64))) / spread if spread > 0 else math.inf


def is_clipped(samples: np.ndarray) -> bool:
    """Whether a recording, shape (time,), stays at its highest or lowest value for three samples, and that is full
    scale. Clipping doesn't show in what was resampled."""
    for signed in (samples, -samples):
        peak = signed.max()
        places = np.flatnonzero(signed == peak)
        if peak >= CLIPPED_PEAK and (places[CLIPPED_RUN - 1 :] - places[: 1 - CLIPPED_RUN] < CLIPPED_RUN).any():
            return True
    return False


def noise_floor(samples: np.ndarray, sample_rate: int) -> float:
    """The level of a recording's quietest moments in dB of its speech: the 5th percentile of its levels over frames of
    32 ms, relative to the RMS over those frames that lie within 40 dB of the loudest.

    Frames of zeros are padding and don't count.

    Args:
        samples: shape (time,).
        sample_rate: in Hz.

    Returns:
        NaN where there is no whole frame.
    """
    powers = frame_powers(samples, sample_rate)
    powers = powers[powers > 0]
    if not len(powers) or len(samples) < FRAME_SECONDS * sample_rate:
        return math.nan
    return decibels(math.sqrt(np.percentile(powers, QUIET_PERCENT) / active_power(powers)))


def rms(samples: np.ndarray) -> float:
    """Root mean square of samples, shape (time,)."""
    return math.sqrt(np.square(samples, dtype=np.float64).mean())


def decibels(ratio: float) -> float:
    """A ratio of amplitudes in dB."""
    return max(LEAST_DB, 20 * math.log10(ratio)) if ratio > 0 else LEAST_DB
