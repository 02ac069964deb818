"""Mixture lists: which utterances, at which levels, from which position; and the batches they become."""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from separation.data.draws import choose_distinct, stream, uniforms
from separation.data.store import SampleStore, Utterance
from separation.errors import InputError, check_count, check_number


@dataclass(frozen=True)
class Mixing:
    """How utterances become mixtures.

    Args:
        num_sources: speakers in a mixture, all different.
        level_range: the loudest and the quietest source lie a level apart that is uniform in [0, level_range] dB, the
            others evenly between (WSJ0-2mix: two sources, 5 dB).
        rms: level to which every utterance is brought before that; full scale is 1.
    """

    num_sources: int = 2
    level_range: float = 5.0
    rms: float = 0.05

    def __post_init__(self) -> None:
        check_count("mixing.num_sources", self.num_sources, minimum=2, maximum=6)
        check_number("mixing.level_range", self.level_range, 0, 60)
        check_number("mixing.rms", self.rms, 1e-4, 1)

    @property
    def mixture_rms(self) -> float:
        """RMS of a mixture of equally loud sources: the level that a trained network expects."""
        return self.rms * self.num_sources**0.5


class Mixture(NamedTuple):
    """A row of a mixture list."""

    name: str
    utterances: tuple[Utterance, ...]
    gains: tuple[float, ...]
    """What each utterance's samples are multiplied by."""
    positions: tuple[float, ...]
    """Where in each utterance an excerpt begins: 0 at its earliest, below 1."""


class Batch(NamedTuple):
    """Sources side by side; their sum is the mixture."""

    sources: Tensor
    """Shape (batch, source, time), float32, zeros after each mixture's end."""
    num_samples: Tensor
    """Length of each mixture, shape (batch,)."""
    names: tuple[str, ...]

    def pinned(self) -> "Batch":
        """The batch in memory from which a GPU reads while the host goes on."""
        return self._replace(sources=self.sources.pin_memory())


class DrawnMixtures:
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

    def __init__(self, store: SampleStore, split: str, mixing: Mixing, num_mixtures: int, seed: int = 0) -> None:
        check_count("seed", seed, minimum=0, maximum=2**63 - 1)
        self.store = store
        self.split = split
        self.mixing = mixing
        self.seed = seed
        self._num_mixtures = num_mixtures
        speakers: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in store.utterances:
            if utterance.split == split:
                speakers[utterance.speaker].append(utterance)
        self._speakers = [speakers[name] for name in sorted(speakers)]
        self._stream = stream("mixtures", split)
        if len(self._speakers) < mixing.num_sources:
            raise InputError(
                f"data: the {split} split has {len(self._speakers)} speaker(s), too few for mixtures of"
                f" {mixing.num_sources}; add speakers (or hold out fewer: data.held_out) or lower mixing.num_sources"
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
            float(self.mixing.rms / utterance.rms * 10 ** (decibel / 20))
            for utterance, decibel in zip(utterances, decibels, strict=True)
        )
        return Mixture(f"{self.split}-{epoch:04}-{index:05}", utterances, gains, tuple(where))

    def excerpts(self, indices: range, num_samples: int, epoch: int = 0) -> Batch:
        """Excerpts of one length, from a random offset in each utterance; shorter utterances are padded with zeros.

        They are mixed where the samples are: on the store's device if it has one, with the same values.
        """
        mixtures = [self.draw(index, epoch) for index in indices]
        mix = self._mix if self.store.on_device is None else self._mix_on_device
        return _batch(mixtures, mix(mixtures, num_samples), [num_samples] * len(mixtures))

    def _mix(self, mixtures: list[Mixture], num_samples: int) -> Tensor:
        sources = np.zeros((len(mixtures), self.mixing.num_sources, num_samples), dtype=np.float32)
        for row, mixture in zip(sources, mixtures, strict=True):
            for target, utterance, gain, position in zip(row, *mixture[1:], strict=True):
                length = min(num_samples, utterance.num_samples)
                offset = _offset(utterance, position, num_samples)
                target[:length] = self.store.read(utterance, offset, length) * np.float32(gain)
        return torch.from_numpy(sources)

    def _mix_on_device(self, mixtures: list[Mixture], num_samples: int) -> Tensor:
        samples = self.store.on_device
        assert samples is not None
        places = [
            [
                (
                    utterance.start + _offset(utterance, position, num_samples),
                    utterance.num_samples,
                    utterance.scale,
                    gain,
                )
                for utterance, gain, position in zip(*mixture[1:], strict=True)
            ]
            for mixture in mixtures
        ]
        table = torch.tensor(places, dtype=torch.float64).to(samples.device, non_blocking=True)
        first, length, scale, gain = table.unsqueeze(-2).unbind(-1)
        time = torch.arange(num_samples, device=samples.device)
        values = samples[(first.long() + time).clamp(max=len(samples) - 1)]
        return torch.where(time < length, values * scale.float() * gain.float(), 0.0)

    def whole(self, indices: list[int]) -> Batch:
        """Whole mixtures, each cut to its shortest utterance ("min"), padded with zeros to the longest of them."""
        mixtures = [self.draw(index) for index in indices]
        lengths = [self.length(index) for index in indices]
        sources = np.zeros((len(mixtures), self.mixing.num_sources, max(lengths)), dtype=np.float32)
        for row, mixture, length in zip(sources, mixtures, lengths, strict=True):
            for target, utterance, gain in zip(row, mixture.utterances, mixture.gains, strict=True):
                target[:length] = self.store.read(utterance, 0, length) * np.float32(gain)
        return _batch(mixtures, torch.from_numpy(sources), lengths)

    def length(self, index: int) -> int:
        """Number of samples of a whole mixture."""
        return min(utterance.num_samples for utterance in self.draw(index).utterances)


def _offset(utterance: Utterance, position: float, num_samples: int) -> int:
    """Where an excerpt begins."""
    return int(position * (max(0, utterance.num_samples - num_samples) + 1))


def _batch(mixtures: list[Mixture], sources: Tensor, lengths: list[int]) -> Batch:
    return Batch(sources, torch.tensor(lengths), tuple(mixture.name for mixture in mixtures))


@dataclass(frozen=True)
class Data:
    """The mixture lists of a corpus."""

    train: DrawnMixtures
    valid: DrawnMixtures
    tests: list[DrawnMixtures]
