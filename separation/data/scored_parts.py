"""Which mixtures can show how well they were separated: those of two signals or more that are there, and differ."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import scipy.fft

from separation.data.audio import SHORTEST_SECONDS
from separation.data.mixtures import MixtureList
from separation.data.utterances import Utterance

FRAME_SECONDS = 0.032
ACTIVE_DB = 40.0
"""A frame is active if it lies within so much of the loudest."""
SILENT_DB = -20.0
"""A source that lies so far below its recording's active level is silent, or room noise. Of 2,700 drawn mixtures of
digits, of read sentences and of synthetic voices none has less than +3 dB (docs/data.md)."""
INAUDIBLE_DB = -40.0
"""So is one that lies so far below the mixture's loudest source."""
LOUD_FRAMES = 3
"""A source is as loud as it is in so many frames, a tenth of a second: a click is no speech."""
SAME, SHIFT_SECONDS = 0.5, 0.1
"""Sources with a higher correlation, of either sign, with up to such a shift (codecs make one), are one signal. Of the
same 2,700 none has more than 0.14."""


def frame_powers(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean square of each frame of 32 ms, shape (frame,); of all samples where they are fewer than a frame."""
    length = min(round(FRAME_SECONDS * sample_rate), max(1, len(samples)))
    frames = samples[: len(samples) // length * length].reshape(-1, length)
    return np.square(frames, dtype=np.float64).mean(1)


def active_power(powers: np.ndarray) -> float:
    """Mean of those frames' powers that lie within 40 dB of the loudest: the level of speech without its pauses."""
    return float(powers[powers >= powers.max(initial=0) * 10 ** (-ACTIVE_DB / 10)].mean()) if powers.any() else 0.0


class ScoredParts:
    """Looks at the parts of recordings that a list's mixtures are made of.

    Args:
        mixtures: the list.
    """

    def __init__(self, mixtures: MixtureList) -> None:
        self.mixtures = mixtures
        self._active: dict[str, float] = {}

    def levels(self, sources: np.ndarray, index: int) -> list[float]:
        """How loud each source is in its loudest tenth of a second, in dB of its recording's active level.

        Args:
            sources: of the mixture number `index`, at its levels, shape (source, time).
        """
        mixture = self.mixtures.draw(index)
        active = [
            self._active_power(utterance) * gain**2
            for utterance, gain in zip(mixture.utterances, mixture.gains, strict=True)
        ]
        return [_decibels(one, other) for one, other in zip(self._loud_powers(sources), active, strict=False)]

    def _loud_powers(self, sources: np.ndarray) -> list[float]:
        """Each source's power in its loudest tenth of a second."""
        rate = self.mixtures.store.sample_rate
        ordered = [np.sort(frame_powers(source - source.mean(), rate))[::-1] for source in sources]
        return [float(powers[:LOUD_FRAMES].min(initial=np.inf)) for powers in ordered]

    def problems(self, sources: np.ndarray, index: int) -> dict[int, str]:
        """The sources of a mixture of which nothing can be measured, and why; empty for almost every mixture.

        Args:
            sources: see `levels`.
        """
        count, length = sources.shape
        if length < SHORTEST_SECONDS * self.mixtures.store.sample_rate:
            return dict.fromkeys(range(count), f"the mixture is shorter than {SHORTEST_SECONDS} s")
        found = {
            number: f"source {number + 1} is silent where it is scored ({level:.0f} dB of its recording)"
            for number, level in enumerate(self.levels(sources, index))
            if level < SILENT_DB
        }
        powers = self._loud_powers(sources)
        for number, power in enumerate(powers):
            if number not in found and (level := _decibels(power, max(powers))) < INAUDIBLE_DB:
                found[number] = f"source {number + 1} is inaudible beside the others ({level:.0f} dB)"
        for one, other, correlation in correlations(sources, round(SHIFT_SECONDS * self.mixtures.store.sample_rate)):
            if abs(correlation) > SAME:
                same = f"sources {one + 1} and {other + 1} are one signal (correlation {correlation:.2f})"
                found |= {one: same, other: same}
        return found

    def _active_power(self, utterance: Utterance) -> float:
        if utterance.name not in self._active:
            store = self.mixtures.store
            samples = np.empty(utterance.num_samples, dtype=np.float32)
            store.read_into(samples, utterance, 0)
            self._active[utterance.name] = active_power(frame_powers(samples - samples.mean(), store.sample_rate))
        return self._active[utterance.name]


def in_words(problems: dict[int, str]) -> str:
    """What `ScoredParts.problems` found in a mixture, each reason once; empty where it found nothing."""
    return "; ".join(dict.fromkeys(problems.values()))


def correlations(sources: np.ndarray, reach: int = 0) -> Iterator[tuple[int, int, float]]:
    """Pearson's correlation of every pair of sources, shape (source, time); 0 where one is silent.

    Args:
        reach: the largest of all shifts of up to so many samples is taken.
    """
    centred = sources - sources.mean(axis=1, keepdims=True, dtype=np.float64)
    size = scipy.fft.next_fast_len(sources.shape[1] + reach, real=True)
    spectra, norms = scipy.fft.rfft(centred, size), np.sqrt(np.square(centred).sum(axis=1))
    for one, other in combinations(range(len(sources)), 2):
        products = scipy.fft.irfft(spectra[one].conj() * spectra[other], size)
        products = np.concatenate([products[: reach + 1], products[size - reach :]])
        norm = float(norms[one] * norms[other])
        yield one, other, float(products[np.abs(products).argmax()]) / norm if norm > 0 else 0.0


def _decibels(power: float, reference: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(np.float64(power) / reference)) if reference > 0 else -np.inf
