"""Mixtures that are drawn from a corpus's utterances."""

from collections import defaultdict

import numpy as np

from separation.data.keyed_random import choose_distinct, stream, uniforms
from separation.data.mixtures import Mixing, Mixture, MixtureList, Span
from separation.data.sample_store import SampleStore
from separation.data.utterances import Utterance
from separation.errors import InputError, check_count


class DrawnMixtures(MixtureList):
    """Mixtures of different speakers of one split, each a function of (seed, epoch, index) alone.

    Args:
        store: where the utterances lie.
        split: whose utterances are mixed.
        mixing: number of sources and levels.
        num_mixtures: mixtures an epoch.
        seed: any whole number >= 0.

    Raises:
        InputError: the split has fewer speakers than a mixture.
    """

    def __init__(self, store: SampleStore, split: str, mixing: Mixing, num_mixtures: int | None, seed: int = 0) -> None:
        super().__init__(store, split, mixing)
        check_count("seed", seed, minimum=0, maximum=2**63 - 1)
        if num_mixtures is None or mixing.rms is None:
            key = f"data.num_{split.partition('_')[0]}" if num_mixtures is None else "mixing.rms"
            raise InputError(f"{key}=null: the mixtures of the {split} split are drawn; give a number")
        self.seed = seed
        self._rms = mixing.rms
        self._num_mixtures = num_mixtures
        speakers: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in store.utterances:
            if utterance.split == split and utterance.speaker:
                speakers[utterance.speaker].append(utterance)
        self._speakers = [speakers[name] for name in sorted(speakers)]
        self._stream = stream("mixtures", split)
        if len(self._speakers) < mixing.num_sources:
            raise InputError(
                f"data: the {split} split has {len(self._speakers)} speaker(s), too few for mixtures of"
                f" {mixing.num_sources}; add speakers (or hold out fewer: data.held_out), more recordings of those that"
                " have fewer than there are splits (or lower data.segment_seconds), or lower mixing.num_sources"
            )

    def __len__(self) -> int:
        return self._num_mixtures

    def draw(self, index: int, epoch: int = 0) -> Mixture:
        """The mixture number `index` of an epoch."""
        count = self.mixing.num_sources
        numbers = uniforms(3 * count + 1, seed=self.seed, stream=self._stream, epoch=epoch, index=index)
        who, what, where, level = (part.tolist() for part in np.split(numbers, [count, 2 * count, 3 * count]))
        speakers = [self._speakers[i] for i in choose_distinct(len(self._speakers), who)]
        utterances = tuple(speaker[int(u * len(speaker))] for speaker, u in zip(speakers, what, strict=True))
        decibels = np.linspace(0.5, -0.5, count) * self.mixing.level_range * level[0]
        gains = tuple(
            float(self._rms / utterance.rms * 10 ** (decibel / 20))
            for utterance, decibel in zip(utterances, decibels, strict=True)
        )
        return Mixture(f"{self.split}-{epoch:04}-{index:05}", utterances, gains, tuple(where))

    def spans(self, mixture: Mixture, num_samples: int | None = None) -> list[Span]:
        """Every source of an excerpt begins somewhere else, those of a whole mixture at their beginnings."""
        if num_samples is None:
            return [Span(0, utterance.num_samples) for utterance in mixture.utterances]
        return [
            Span(
                int(position * (max(0, utterance.num_samples - num_samples) + 1)),
                min(num_samples, utterance.num_samples),
            )
            for utterance, position in zip(mixture.utterances, mixture.positions, strict=True)
        ]
