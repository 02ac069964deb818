"""What a network does on the validation list: its loss, and the SI-SDR of some whole mixtures."""

import logging
import math
from functools import cached_property

import torch
from torch import Tensor, nn

from separation.data.corpora.file_corpus import named
from separation.data.mixtures import Batch
from separation.data.scored_parts import ScoredParts, in_words
from separation.model.assignment import reorder
from separation.model.separators import separate
from separation.model.si_sdr import best_permutation, si_sdr
from separation.training.step import TrainingParts, batch_loss
from separation.training.trackers.tracker import Signal

log = logging.getLogger(__name__)


class Validation:
    """Measures networks on always the same mixtures; each process takes a share.

    Args:
        parts: the run's; the network that is measured is an argument, as it may be another of the same kind.
        batch_size: mixtures at once.
        num_samples: length of the excerpts whose loss is taken.
        num_scored: of so many mixtures the SI-SDR is taken.
    """

    def __init__(self, parts: TrainingParts, batch_size: int, num_samples: int, num_scored: int) -> None:
        self._parts = parts
        self._batch_size = batch_size
        self._num_samples = num_samples
        self._num_scored = num_scored

    @torch.inference_mode()
    def loss(self, network: nn.Module) -> float:
        """Mean loss over the list's excerpts."""
        parts, size = self._parts, self._batch_size
        network.eval()
        total = torch.zeros((), dtype=torch.float64)
        for number in parts.processes.part(range(-(-len(parts.data.valid) // size))):
            indices = range(number * size, min((number + 1) * size, len(parts.data.valid)))
            batch = parts.data.valid.excerpts(indices, self._num_samples)
            total += len(indices) * float(batch_loss(parts, network, batch))
        network.train()
        return float(parts.processes.sum(total)) / len(parts.data.valid)

    @torch.inference_mode()
    def si_sdr(self, network: nn.Module) -> float:
        """Mean SI-SDR in dB of some whole mixtures, evenly spaced in the list, less those that can't be scored. NaN
        where there is none."""
        parts, mixtures = self._parts, self._parts.data.valid
        chosen, size = self._scored, self._batch_size
        groups = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        total = torch.zeros(2, dtype=torch.float64)
        network.eval()
        for number in parts.processes.part(range(len(groups))):
            batch = mixtures.whole(groups[number])
            scores = si_sdr(self._estimates(network, batch), batch.sources)
            whole = scores.isfinite().all(1)  # a mixture counts whole or not at all
            total += torch.stack([scores[whole].sum(), scores[whole].numel() * torch.ones((), dtype=torch.float64)])
        network.train()
        score, number_of_sources = parts.processes.sum(total).tolist()
        return score / number_of_sources if number_of_sources else math.nan

    @torch.inference_mode()
    def examples(self, network: nn.Module, count: int) -> list[Signal]:
        """The first of those mixtures with their references and what a network makes of them, in the references' order;
        to listen to."""
        mixtures, signals = self._parts.data.valid, list[Signal]()
        network.eval()
        for number, index in enumerate(self._scored[:count], start=1):
            batch = mixtures.whole([index])
            signals += [
                Signal(f"valid_{number}/{name}", samples.numpy(), mixtures.store.sample_rate)
                for name, samples in batch.signals(self._estimates(network, batch)).items()
            ]
        network.train()
        return signals

    def _estimates(self, network: nn.Module, batch: Batch) -> Tensor:
        """What a network makes of whole mixtures, in the references' order, shape (batch, source, time)."""
        parts = self._parts
        mixture = batch.mixture.to(parts.device)
        estimates = separate(network, parts.separator, parts.stft, mixture, batch.num_samples).cpu()
        return reorder(estimates, best_permutation(estimates, batch.sources))

    @cached_property
    def _scored(self) -> list[int]:
        """The mixtures that are scored; a warning names those that can't be."""
        mixtures = self._parts.data.valid
        count = min(self._num_scored, len(mixtures))
        kept, left_out, scored_parts = [], [], ScoredParts(mixtures)
        for index in (i * len(mixtures) // count for i in range(count)):
            batch = mixtures.whole([index])
            problems = scored_parts.problems(batch.sources[0].numpy(), index)
            kept += [] if problems else [index]
            left_out += [f"{batch.names[0]}: {in_words(problems)}"] if problems else []
        if left_out:
            log.warning("valid: no SI-SDR of %d of %d mixtures: %s", count - len(kept), count, named(left_out))
        return kept
