"""Mixtures that a corpus lists."""

import math
from collections.abc import Sequence

import numpy as np

from separation.data.corpora import file_corpus
from separation.data.corpora.corpus import ListedMixture
from separation.data.keyed_random import stream, uniforms
from separation.data.mixtures import Mixing, Mixture, MixtureList, Span
from separation.data.sample_store import SampleStore
from separation.errors import InputError, check_count

QUIETEST = 1e-2
"""A source that lies 40 dB below its recording's level is silent: nothing can be said of how well it was separated."""


class ListedMixtures(MixtureList):
    """A corpus's own mixtures of one split.

    Args:
        store: where their recordings lie.
        split: its name.
        mixing: number of sources, level.
        rows: the list.
        num_mixtures: mixtures an epoch; None: all.
        seed: of the order, another one each time that the list begins anew, and of where excerpts begin. None: the
            list's own order, `num_mixtures` of them evenly spaced, without those in which a source is silent.

    Raises:
        InputError: the list names what the store doesn't hold, or has another number of sources.
    """

    def __init__(
        self,
        store: SampleStore,
        split: str,
        mixing: Mixing,
        rows: Sequence[ListedMixture],
        num_mixtures: int | None,
        seed: int | None = None,
    ) -> None:
        super().__init__(store, split, mixing)
        self.seed = seed
        self._recordings = {utterance.name: utterance for utterance in store.utterances}
        self._levels: dict[str, float] = {}
        for row in rows:
            self._check(row)
        self._check_lengths(rows)
        self._rows = list(rows)
        if seed is None:
            self._rows = [row for row in rows if row.span is None or not self._has_silence(row)]
            if num_mixtures is not None and num_mixtures < len(self._rows):
                self._rows = [self._rows[i * len(self._rows) // num_mixtures] for i in range(num_mixtures)]
        else:
            check_count("seed", seed, minimum=0, maximum=2**63 - 1)
        if not self._rows:
            raise InputError(f"data: the list of the {split} split is empty")
        self._num_mixtures = num_mixtures if num_mixtures is not None and seed is not None else len(self._rows)
        self._by_name = {row.name: row for row in self._rows}
        self._stream = stream("listed", split)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._num_mixtures

    def draw(self, index: int, epoch: int = 0) -> Mixture:
        """The mixture number `index` of an epoch."""
        pass_number, place = divmod(epoch * self._num_mixtures + index, len(self._rows))
        row = self._rows[place if self.seed is None else self._shuffled(pass_number)[place]]
        utterances = tuple(self._recordings[name] for name in row.recordings)
        gains = row.gains
        if self.mixing.mixture_rms is not None:
            gains = tuple(gain * self.mixing.mixture_rms / self._level(row) for gain in gains)
        [position] = uniforms(1, seed=self.seed or 0, stream=self._stream, epoch=epoch, index=index).tolist()
        return Mixture(row.name, utterances, gains, (position,) * len(utterances))

    def spans(self, mixture: Mixture, num_samples: int | None = None) -> list[Span]:
        """All sources begin at the same time."""
        row = self._by_name[mixture.name]
        first, last = self._limits(row)
        start = first
        if num_samples is not None:
            start += int(mixture.positions[0] * (max(0, last - first - num_samples) + 1))
            last = min(last, start + num_samples)
        return [
            Span(min(start, utterance.num_samples), max(0, min(last, utterance.num_samples) - start))
            for utterance in mixture.utterances
        ]

    def _level(self, row: ListedMixture) -> float:
        """RMS of the sum of a mixture's recordings, as if they were independent."""
        if row.name not in self._levels:
            parts = zip(row.gains, row.recordings, strict=True)
            level = math.hypot(*(gain * self._rms(row, name) for gain, name in parts))
            self._levels[row.name] = level or 1.0  # a piece of music in which nobody plays
        return self._levels[row.name]

    def _rms(self, row: ListedMixture, name: str) -> float:
        """RMS of the part of a recording that belongs to a mixture."""
        utterance = self._recordings[name]
        if row.span is None:
            return utterance.rms
        first, last = self._limits(row)
        samples = self.store.read(utterance, first, max(0, min(last, utterance.num_samples) - first))
        return float(np.square(samples, dtype=np.float64).mean()) ** 0.5 if len(samples) else 0.0

    def _limits(self, row: ListedMixture) -> tuple[int, int]:
        """First sample of a mixture in its recordings, and the one after its last; noise doesn't count."""
        length = self.mixing.length([self._recordings[name].num_samples for name in row.sources])
        if row.span is None:
            return 0, length
        first, last = (min(length, round(seconds * self.store.sample_rate)) for seconds in row.span)
        return first, last

    def _shuffled(self, pass_number: int) -> np.ndarray:
        """The order of the list's rows when it is gone through for the n-th time."""
        if self._order is None or self._order[0] != pass_number:
            assert self.seed is not None
            numbers = uniforms(len(self._rows), seed=self.seed, stream=stream("order", self.split), epoch=pass_number)
            self._order = pass_number, np.argsort(numbers, kind="stable")
        return self._order[1]

    def _check(self, row: ListedMixture) -> None:
        missing = [name for name in row.recordings if name not in self._recordings]
        if missing:
            raise InputError(
                f"{row.name}: the sample store has no {missing[0]}; remove {self.store.folder} to build it"
            )
        if len(row.sources) != self.mixing.num_sources:
            raise InputError(
                f"mixing.num_sources={self.mixing.num_sources}: {row.name} has {len(row.sources)} sources; use that"
            )

    def _check_lengths(self, rows: Sequence[ListedMixture]) -> None:
        """Raises InputError for ready-made mixtures whose recordings differ in length."""
        wrong = []
        for row in rows:
            lengths = [self._recordings[name].num_samples for name in row.recordings]
            if row.file is not None and len(set(lengths)) > 1:
                wrong.append(f"{row.file} ({', '.join(map(str, lengths))} samples)")
        if wrong:
            raise InputError(f"{file_corpus.named(wrong, ', ')}: its sources differ in length; make them again")

    def _has_silence(self, row: ListedMixture) -> bool:
        return any(self._rms(row, name) <= QUIETEST * self._recordings[name].rms for name in row.sources)
