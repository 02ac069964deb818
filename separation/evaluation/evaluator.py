"""A trained model to scores: SI-SDR of every source of every test mixture, with oracles and the mixture beside it."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from separation.data.corpora.file_corpus import named
from separation.data.mixtures import Batch, MixtureList
from separation.data.scored_parts import ScoredParts, in_words
from separation.errors import InputError, check_choice, check_count, check_flag
from separation.evaluation.audio_examples import Example, write_audio
from separation.evaluation.metrics import BSS_EVAL, BSS_EVAL_TAPS, SI_SDR, centred, si_sdr_by_torch
from separation.evaluation.oracles import ORACLES, OracleEstimator
from separation.evaluation.perceptual import UNDEFINED, check_perceptual, perceptual_scores
from separation.evaluation.summary import Row
from separation.model.assignment import reorder
from separation.model.features import Stft
from separation.model.separators import Separator, separate
from separation.model.si_sdr import best_permutation
from separation.training.processes import Processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is scored.

    Args:
        metrics: `museval` (its BSS Eval, whose SDR with one tap is the SI-SDR) or `torch` (the same numbers, faster);
            the oracles are always scored by the latter.
        zero_mean: remove the means of all signals before SI-SDR is taken, as asteroid does; museval doesn't.
        bss_eval: adds SDR, SIR and SAR of BSS Eval with 512 taps.
        batch_size: mixtures at once.
        num_audio: so many mixtures of each split are written as audio files, see `choose_examples`.
        progress: show a progress bar.
        stoi: adds STOI and ESTOI, of the mixture too.
        pesq: adds PESQ, of the mixture too; at 8 and 16 kHz only.
    """

    metrics: str
    zero_mean: bool
    bss_eval: bool
    batch_size: int
    num_audio: int
    progress: bool
    stoi: bool = False
    pesq: bool = False

    def __post_init__(self) -> None:
        check_choice("metrics", self.metrics, tuple(SI_SDR))
        for key in ("zero_mean", "bss_eval", "stoi", "pesq"):
            check_flag(key, getattr(self, key))
        check_count("batch_size", self.batch_size)
        check_count("num_audio", self.num_audio, minimum=0)

    @property
    def perceptual(self) -> tuple[str, ...]:
        """Which of `PERCEPTUAL` are asked for."""
        return (*(("stoi", "estoi") if self.stoi else ()), *(("pesq",) if self.pesq else ()))

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Columns that scores have only where they are asked for."""
        return (*(("bss_eval_sdr",) if self.bss_eval else ()), *self.perceptual)

    def check_rate(self, sample_rate: int) -> None:
        """Raises InputError where a score that is asked for can't be computed at a rate in Hz, or its package isn't
        installed."""
        check_perceptual(self.perceptual, sample_rate)


Estimator = Callable[[Batch], Tensor]
"""Whole mixtures to estimates on the CPU, shape (batch, source, time), zeros after each mixture's end."""


@dataclass(frozen=True)
class ModelEstimator:
    """What a trained model makes of the mixtures."""

    network: nn.Module
    """In evaluation mode."""
    separator: Separator
    stft: Stft
    device: torch.device
    """Where the network is."""

    def __call__(self, batch: Batch) -> Tensor:
        mixture = batch.mixture.to(self.device)
        estimates = separate(self.network, self.separator, self.stft, mixture, batch.num_samples).cpu()
        if not estimates.isfinite().all():
            raise InputError("run: the network's estimates are NaN or infinite; train again with a lower optimizer.lr")
        return estimates


class Evaluator:
    """Scores one model on lists of mixtures.

    Args:
        estimator: the model.
        stft: of the oracles that stand beside it.
        settings: how.
        processes: each scores a part of the batches.
    """

    def __init__(
        self, estimator: Estimator, stft: Stft, settings: EvaluationSettings, processes: Processes | None = None
    ) -> None:
        self.estimator = estimator
        self.oracles = {name: OracleEstimator(name, stft) for name in ORACLES}
        self.settings = settings
        self.processes = processes or Processes()

    def evaluate(self, mixtures: MixtureList) -> list[Row]:
        """A row for each mixture and source, in the list's order. Where nothing can be measured the scores are NaN, and
        a warning says why."""
        # Mixtures of like length make a batch, so that little of it is padding.
        order = sorted(range(len(mixtures)), key=mixtures.length)
        batches = [order[i : i + self.settings.batch_size] for i in range(0, len(order), self.settings.batch_size)]
        batches = batches[self.processes.rank :: self.processes.count]
        parts = ScoredParts(mixtures)
        rows: dict[int, list[Row]] = {}
        problems: dict[tuple[str, int], str] = {}
        # None: hidden where there is no terminal
        hidden = None if self.settings.progress and self.processes.is_main else True
        with tqdm(total=sum(map(len, batches)), unit="mixture", desc=mixtures.split, disable=hidden) as bar:
            for indices in batches:
                batch = mixtures.whole(indices)
                scored = self._rows(mixtures, indices, batch, self._separate(batch))
                for i, (index, group) in enumerate(zip(indices, scored, strict=True)):
                    rows[index] = group
                    found = parts.problems(batch.sources[i, :, : int(batch.num_samples[i])].numpy(), index)
                    for source in found:
                        group[source] = {k: math.nan if isinstance(v, float) else v for k, v in group[source].items()}
                    if reason := in_words(found) or _undefined(group):
                        problems["not scored", index] = f"{batch.names[i]}: {reason}"
                        continue
                    for name, reason in UNDEFINED.items():
                        if any(math.isnan(row.get(name, 0.0)) for row in group):
                            problems[f"without {name}", index] = f"{batch.names[i]}: {reason}"
                bar.update(len(indices))
        together = {index: group for part in self.processes.gather(rows) for index, group in part.items()}
        unscored: dict[str, list[str]] = defaultdict(list)
        all_problems = {key: text for part in self.processes.gather(problems) for key, text in part.items()}
        for what, index in sorted(all_problems):
            unscored[what].append(all_problems[what, index])
        if self.processes.is_main:
            for what, texts in unscored.items():
                counts = f"{mixtures.split}: {len(texts)} of {len(together)} mixtures {what}"
                log.warning("%s: %s", counts, named(texts))
        return [row for index in sorted(together) for row in together[index]]

    def write_examples(self, mixtures: MixtureList, examples: Sequence[Example], folder: Path) -> None:
        """Writes mixtures' audio into their folders: `mixture.wav`, `reference_1.wav`, `estimate_1.wav`, ..."""
        rate = mixtures.store.sample_rate
        with ThreadPoolExecutor(1) as thread:  # writes one while the next is separated
            writing = []
            for example in examples:
                batch = mixtures.whole([example.number])
                signals = batch.signals(self._separate(batch))
                writing.append(thread.submit(write_audio, folder / example.folder, signals, rate))
            for written in writing:
                written.result()

    def _separate(self, batch: Batch) -> Tensor:
        """Estimates in the references' order, on the CPU, shape (batch, source, time)."""
        estimates = self.estimator(batch)
        if estimates.shape[1] != batch.sources.shape[1]:
            raise InputError(
                f"mixing.num_sources={batch.sources.shape[1]}: the model separates {estimates.shape[1]} sources"
            )
        return reorder(estimates, best_permutation(estimates, batch.sources))

    def _rows(self, mixtures: MixtureList, indices: list[int], batch: Batch, estimates: Tensor) -> Iterator[list[Row]]:
        """Each mixture's rows."""
        score = SI_SDR[self.settings.metrics]
        mixture = batch.mixture.unsqueeze(1).expand_as(batch.sources)
        heard = {"input_si_sdr": mixture, "si_sdr": estimates}
        ideal = {f"oracle_{name}": oracle(batch) for name, oracle in self.oracles.items()}
        references = batch.sources
        if self.settings.zero_mean:
            references = centred(references, batch.num_samples)
            heard, ideal = (
                {name: centred(signal, batch.num_samples) for name, signal in group.items()} for group in (heard, ideal)
            )
        columns = {name: score(signal, references, batch.num_samples) for name, signal in heard.items()}
        columns["si_sdr_improvement"] = columns["si_sdr"] - columns["input_si_sdr"]
        columns |= {name: si_sdr_by_torch(signal, references, batch.num_samples) for name, signal in ideal.items()}
        for i, index in enumerate(indices):
            length = int(batch.num_samples[i])
            ours, whole, sources = (x[i, ..., :length].numpy() for x in (estimates, batch.mixture, batch.sources))
            extra = self._optional_scores(ours, whole, sources, mixtures.store.sample_rate)
            yield [
                {
                    "split": mixtures.split,
                    "mixture": batch.names[i],
                    "source": source,
                    "utterance": utterance.name,
                    "speaker": utterance.speaker,
                    "num_samples": length,
                    **{name: float(values[i, source]) for name, values in columns.items()},
                    **{name: float(values[source]) for name, values in extra.items()},
                }
                for source, utterance in enumerate(mixtures.draw(index).utterances[: batch.sources.shape[1]])
            ]

    def _optional_scores(
        self, estimates: np.ndarray, mixture: np.ndarray, references: np.ndarray, sample_rate: int
    ) -> dict[str, np.ndarray]:
        """What is asked for beside SI-SDR, shape (source,) each."""
        scores = perceptual_scores(self.settings.perceptual, estimates, mixture, references, sample_rate)
        if self.settings.bss_eval:
            by_taps = BSS_EVAL[self.settings.metrics](estimates, references, BSS_EVAL_TAPS)
            scores = {f"bss_eval_{name}": values for name, values in by_taps._asdict().items()} | scores
        return scores


def _undefined(group: list[Row]) -> str:
    """Which of a mixture's sources have no score though they can be measured: their estimates are silent."""
    silent = [str(row["source"] + 1) for row in group if math.isnan(row["si_sdr"])]
    return f"the estimate of source {', '.join(silent)} is silent" if silent else ""
