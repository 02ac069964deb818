"""Mixture lists: which utterances, at which levels, from which position; and the batches they become."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from separation.data.corpora.corpus import Corpus, ListedMixture
from separation.data.sample_store import SampleStore
from separation.data.utterances import Utterance
from separation.errors import check_choice, check_count, check_number

MODES = ("min", "max")


@dataclass(frozen=True)
class Mixing:
    """How utterances become mixtures.

    Args:
        num_sources: sources in a mixture; speakers are all different.
        level_range: of drawn mixtures the loudest and the quietest source lie a level apart that is uniform in
            [0, level_range] dB, the others evenly between (WSJ0-2mix: two sources, 5 dB).
        rms: level to which every utterance of a drawn mixture is brought before that; full scale is 1. A mixture of a
            corpus's list is brought to the level of a drawn one as a whole; with null it keeps its own.
        mode: whole mixtures are cut to the shortest source (min), or as long as the longest (max).
    """

    num_sources: int = 2
    level_range: float = 5.0
    rms: float | None = 0.05
    mode: str = "min"

    def __post_init__(self) -> None:
        check_count("mixing.num_sources", self.num_sources, minimum=2, maximum=6)
        check_number("mixing.level_range", self.level_range, 0, 60)
        if self.rms is not None:
            check_number("mixing.rms", self.rms, 1e-4, 1)
        check_choice("mixing.mode", self.mode, MODES)

    @property
    def mixture_rms(self) -> float | None:
        """RMS of a mixture of equally loud sources: the level that a trained network expects; None: any."""
        return None if self.rms is None else self.rms * self.num_sources**0.5

    def length(self, lengths: Sequence[int]) -> int:
        """Length of a whole mixture of sources of some lengths."""
        return min(lengths) if self.mode == "min" else max(lengths)


class Mixture(NamedTuple):
    """A row of a mixture list. Beside its sources it may hold noise, which then comes last."""

    name: str
    utterances: tuple[Utterance, ...]
    gains: tuple[float, ...]
    """What each utterance's samples are multiplied by."""
    positions: tuple[float, ...]
    """Where in each utterance an excerpt begins: 0 at its earliest, below 1."""


class Span(NamedTuple):
    """Samples of an utterance."""

    start: int
    num_samples: int


class Batch(NamedTuple):
    """Sources side by side; the mixture is their sum and the noise."""

    sources: Tensor
    """Shape (batch, source, time), float32, zeros after each mixture's end."""
    num_samples: Tensor
    """Length of each mixture, shape (batch,)."""
    names: tuple[str, ...]
    noise: Tensor | None = None
    """What is in the mixture beside the sources, shape (batch, time)."""

    @property
    def mixture(self) -> Tensor:
        """Shape (batch, time)."""
        return self.sources.sum(1) if self.noise is None else self.sources.sum(1) + self.noise

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, without waiting for it to arrive."""
        noise = None if self.noise is None else self.noise.to(device, non_blocking=True)
        return self._replace(sources=self.sources.to(device, non_blocking=True), noise=noise)

    def split(self, count: int) -> "list[Batch]":
        """The batch in so many parts, as many mixtures in each as in any other, but for one."""
        sizes = [len(part) for part in torch.arange(len(self.names)).tensor_split(count)]
        noises = [None] * count if self.noise is None else self.noise.split(sizes)
        names = [self.names[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
        parts = zip(self.sources.split(sizes), self.num_samples.split(sizes), names, noises, strict=True)
        return [Batch(*part) for part in parts]

    def signals(self, estimates: Tensor) -> dict[str, Tensor]:
        """The first mixture's signals, each of shape (time,): `mixture`, `reference_1`, ..., `estimate_1`, ...

        Args:
            estimates: in the references' order, shape (batch, source, time).
        """
        signals = {"mixture": self.mixture[0]}
        for kind, sources in (("reference", self.sources[0]), ("estimate", estimates[0])):
            signals |= {f"{kind}_{number}": source for number, source in enumerate(sources, start=1)}
        return signals

    def pinned(self) -> "Batch":
        """The batch in memory from which a GPU reads while the host goes on."""
        noise = None if self.noise is None else self.noise.pin_memory()
        return self._replace(sources=self.sources.pin_memory(), noise=noise)


class MixtureList(ABC):
    """The mixtures of a split.

    Args:
        store: where the utterances lie.
        split: its name.
        mixing: number of sources and levels.
    """

    def __init__(self, store: SampleStore, split: str, mixing: Mixing) -> None:
        self.store = store
        self.split = split
        self.mixing = mixing

    @abstractmethod
    def __len__(self) -> int:
        """Mixtures an epoch."""

    @abstractmethod
    def draw(self, index: int, epoch: int = 0) -> Mixture:
        """The mixture number `index` of an epoch."""

    @abstractmethod
    def spans(self, mixture: Mixture, num_samples: int | None = None) -> list[Span]:
        """What each utterance gives to an excerpt of `num_samples`; None: to the whole mixture."""

    def speakers(self) -> set[str]:
        """Who speaks in the split, as far as it is known."""
        return {utterance.speaker for utterance in self.store.utterances if utterance.split == self.split} - {""}

    def length(self, index: int) -> int:
        """Number of samples of a whole mixture."""
        spans = self.spans(self.draw(index))[: self.mixing.num_sources]  # noise doesn't count
        return self.mixing.length([span.num_samples for span in spans])

    def excerpts(self, indices: range, num_samples: int, epoch: int = 0) -> Batch:
        """Excerpts of one length from random offsets; what is shorter is padded with zeros.

        They are mixed where the samples are: on the store's device if it has one, with the same values.
        """
        mixtures = [self.draw(index, epoch) for index in indices]
        spans = [self.spans(mixture, num_samples) for mixture in mixtures]
        mix = self._mix if self.store.on_device is None else self._mix_on_device
        return self._batch(mixtures, mix(mixtures, spans, num_samples), [num_samples] * len(mixtures))

    def whole(self, indices: list[int]) -> Batch:
        """Whole mixtures, padded with zeros to the longest of them."""
        mixtures = [self.draw(index) for index in indices]
        lengths = [self.length(index) for index in indices]
        spans = [
            [span._replace(num_samples=min(span.num_samples, length)) for span in self.spans(mixture)]
            for mixture, length in zip(mixtures, lengths, strict=True)
        ]
        return self._batch(mixtures, self._mix(mixtures, spans, max(lengths)), lengths)

    def _batch(self, mixtures: list[Mixture], parts: Tensor, lengths: list[int]) -> Batch:
        sources, noise = parts.split((self.mixing.num_sources, parts.shape[1] - self.mixing.num_sources), dim=1)
        names = tuple(mixture.name for mixture in mixtures)
        return Batch(sources, torch.tensor(lengths), names, noise.sum(1) if noise.shape[1] else None)

    def _mix(self, mixtures: list[Mixture], spans: list[list[Span]], num_samples: int) -> Tensor:
        """Every mixture's utterances at their levels, shape (batch, utterance, time)."""
        parts = np.zeros((len(mixtures), len(mixtures[0].utterances), num_samples), dtype=np.float32)
        for row, mixture, places in zip(parts, mixtures, spans, strict=True):
            for target, utterance, gain, span in zip(row, mixture.utterances, mixture.gains, places, strict=True):
                self.store.read_into(target[: span.num_samples], utterance, span.start, gain)
        return torch.from_numpy(parts)

    def _mix_on_device(self, mixtures: list[Mixture], spans: list[list[Span]], num_samples: int) -> Tensor:
        samples = self.store.on_device
        assert samples is not None
        places = [
            [
                (utterance.start + span.start, span.num_samples, utterance.scale, gain)
                for utterance, gain, span in zip(mixture.utterances, mixture.gains, row, strict=True)
            ]
            for mixture, row in zip(mixtures, spans, strict=True)
        ]
        table = torch.tensor(places, dtype=torch.float64).to(samples.device, non_blocking=True)
        first, length, scale, gain = table.unsqueeze(-2).unbind(-1)
        time = torch.arange(num_samples, device=samples.device)
        values = samples[(first.long() + time).clamp(max=len(samples) - 1)]
        return torch.where(time < length, values * scale.float() * gain.float(), 0.0)


@dataclass(frozen=True)
class Data:
    """The mixture lists of a corpus."""

    train: MixtureList
    valid: MixtureList
    tests: list[MixtureList]
    corpus: Corpus
    lists: Mapping[str, Sequence[ListedMixture]]
    """The corpus's own lists, whole; see `Corpus.mixture_lists`."""

    def digest(self) -> str:
        """A fingerprint of the recordings and the lists, wherever their files lie."""
        rows = {split: [row._replace(file=None) for row in rows] for split, rows in self.lists.items()}
        return hashlib.sha256(f"{self.train.store.digest()} {rows}".encode()).hexdigest()
