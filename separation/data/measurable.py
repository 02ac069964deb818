"""Which mixtures can show how well they were separated: those of two signals or more that are there, and differ."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from separation.data.audio import SHORTEST_SECONDS
from separation.data.mixtures import MixtureList
from separation.data.utterances import Utterance

FRAME_SECONDS = 0.032
ACTIVE_DB = 40.0
"""A frame is active if it lies within so much of the loudest."""
SILENT_DB = -20.0
"""A source whose loudest frame lies so far below its recording's active level is silent, or room noise. Of 4,000 drawn
mixtures of digits and of read sentences none has less than +5 dB."""
SAME = 0.5
"""Sources with a higher correlation, of either sign, are one signal. Of the same 4,000 none has more than 0.07."""


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
        """The loudest frame of each source in dB of its recording's active level.

        Args:
            sources: of the mixture number `index`, at its levels, shape (source, time).
        """
        mixture = self.mixtures.draw(index)
        rate = self.mixtures.store.sample_rate
        loudest = [frame_powers(source, rate).max(initial=0) for source in sources]
        active = [
            self._active_power(utterance) * gain**2
            for utterance, gain in zip(mixture.utterances, mixture.gains, strict=True)
        ]
        with np.errstate(divide="ignore"):
            return [float(10 * np.log10(one / other)) for one, other in zip(loudest, active, strict=False)]

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
        for one, other, correlation in correlations(sources):
            if abs(correlation) > SAME:
                same = f"sources {one + 1} and {other + 1} are one signal (correlation {correlation:.2f})"
                found |= {one: same, other: same}
        return found

    def _active_power(self, utterance: Utterance) -> float:
        if utterance.name not in self._active:
            store = self.mixtures.store
            samples = store.read(utterance, 0, utterance.num_samples)
            self._active[utterance.name] = active_power(frame_powers(samples, store.sample_rate))
        return self._active[utterance.name]


def correlations(sources: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Pearson's correlation of every pair of sources, shape (source, time); 0 where one is silent."""
    centred = sources - sources.mean(axis=1, keepdims=True, dtype=np.float64)
    products = centred @ centred.T
    for one, other in combinations(range(len(sources)), 2):
        norm = float(np.sqrt(products[one, one] * products[other, other]))
        yield one, other, float(products[one, other]) / norm if norm > 0 else 0.0
