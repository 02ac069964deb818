"""From a network's outputs to estimated waveforms, by masks where it has masks or embeddings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from separation.errors import check_count, check_number
from separation.model.clustering import kmeans, nearest, squared_distances
from separation.model.features import Mixture, Stft, audible
from separation.model.outputs import output


class Separator(ABC):
    """Turns a network's outputs into estimates of the sources."""

    @abstractmethod
    def masks(self, outputs: dict[str, Tensor], mixture: Mixture) -> Tensor:
        """Real or complex masks of the mixture's spectrum, shape (batch, frame, frequency, source)."""

    def waveforms(self, outputs: dict[str, Tensor], mixture: Mixture) -> Tensor:
        """Shape (batch, source, time), zeros after each mixture's end."""
        masks = self.masks(outputs, mixture)
        return apply_masks(masks, mixture.spectrum, mixture.stft, lengths(mixture))


class MaskSeparator(Separator):
    """The network's own masks."""

    def masks(self, outputs: dict[str, Tensor], mixture: Mixture) -> Tensor:
        return output(outputs, "mask", mixture, "separator=masks")


class WaveformSeparator(Separator):
    """The network's own waveforms."""

    def masks(self, outputs: dict[str, Tensor], mixture: Mixture) -> Tensor:
        """Complex ratios of the estimates' spectra to the mixture's: applied to it, they give the estimates back."""
        spectra = mixture.stft(output(outputs, "waveform", mixture, "separator=waveform")).permute(0, 2, 3, 1)
        mixed = mixture.spectrum.unsqueeze(-1)
        power = mixed.abs().square()
        # Where the mixture has nothing there is nothing to separate; a bin this far below its peak is rounding.
        floor = 1e-12 * power.amax((1, 2), keepdim=True)
        return spectra * mixed.conj() / power.maximum(floor).clamp(min=torch.finfo(power.dtype).tiny)

    def waveforms(self, outputs: dict[str, Tensor], mixture: Mixture) -> Tensor:
        estimates = output(outputs, "waveform", mixture, "separator=waveform")
        inside = torch.arange(estimates.shape[-1]) < lengths(mixture)[:, None, None]
        return estimates * inside.to(estimates.device)


class KMeansSeparator(Separator):
    """Each bin goes to the nearest of the centroids that k-means finds in the embeddings.

    Args:
        num_sources: clusters.
        threshold: k-means is fitted on the bins within so many dB of the utterance's peak (they are what is heard, and
            fewer); all are then assigned.
        restarts: k-means++ starts, of which the best is kept.
        iterations: at most, for each start.
        seed: of the starts; the result depends on nothing else.
        soft: instead of binary masks, each bin's probabilities under Gaussians around the centroids, whose common
            variance is the mean squared distance of the fitted bins from theirs.
    """

    def __init__(
        self, num_sources: int, threshold: float, restarts: int, iterations: int, seed: int, soft: bool = False
    ) -> None:
        check_number("model.separator.threshold", threshold, 1, 120)
        check_count("model.separator.restarts", restarts, maximum=1000)
        check_count("model.separator.iterations", iterations, maximum=10_000)
        check_count("model.separator.seed", seed, minimum=0)
        self.num_sources = num_sources
        self.threshold = threshold
        self.restarts = restarts
        self.iterations = iterations
        self.seed = seed
        self.soft = soft

    def masks(self, outputs: dict[str, Tensor], mixture: Mixture) -> Tensor:
        magnitude = mixture.magnitude
        points = output(outputs, "embedding", mixture, "separator=kmeans").flatten(1, 2)
        loud = audible(magnitude, self.threshold).flatten(1)
        # The loud bins side by side; mixtures that have fewer of them get zeros of weight 0 at the end.
        chosen = pad_sequence([item[kept > 0] for item, kept in zip(points, loud, strict=True)], batch_first=True)
        weight = pad_sequence([kept[kept > 0] for kept in loud], batch_first=True)
        if not weight.numel():  # silence
            chosen, weight = points[:, :1], loud[:, :1]
        centroids = kmeans(chosen, weight, self.num_sources, self.restarts, self.iterations, self.seed)
        if not self.soft:
            labels = nearest(points, centroids).reshape(magnitude.shape)
            return (labels.unsqueeze(-1) == torch.arange(self.num_sources, device=labels.device)).to(magnitude)
        spread = (weight * squared_distances(chosen, centroids).amin(1)).sum(1) / weight.sum(1).clamp(min=1)
        variance = spread.clamp(min=torch.finfo(spread.dtype).eps)[:, None, None] / points.shape[-1]
        probability = torch.softmax(-squared_distances(points, centroids) / (2 * variance), dim=1)
        return probability.transpose(1, 2).reshape(*magnitude.shape, self.num_sources)


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, ready to separate."""

    network: nn.Module
    """In evaluation mode."""
    separator: Separator
    stft: Stft
    device: torch.device


@torch.inference_mode()
def separate(network: nn.Module, separator: Separator, stft: Stft, mixtures: Tensor, num_samples: Tensor) -> Tensor:
    """Estimated sources of a batch of mixtures.

    Args:
        network: from a `Mixture` to outputs, in evaluation mode.
        mixtures: shape (batch, time), zeros after each mixture's end.
        num_samples: each mixture's length, shape (batch,).

    Returns:
        Shape (batch, source, time), zeros after each mixture's end.
    """
    mixture = Mixture(mixtures, stft, num_samples)
    return separator.waveforms(network(mixture), mixture)


def lengths(mixture: Mixture) -> Tensor:
    """Each mixture's number of samples, shape (batch,)."""
    batch, time = mixture.waveform.shape
    return torch.full((batch,), time) if mixture.num_samples is None else mixture.num_samples


def apply_masks(masks: Tensor, spectrogram: Tensor, stft: Stft, num_samples: Tensor) -> Tensor:
    """Masks times the mixture's spectrogram, back to waveforms, each from its own frames only.

    Args:
        masks: shape (batch, frame, frequency, source).
        spectrogram: of the mixtures, complex, shape (batch, frame, frequency).
        num_samples: each mixture's length, shape (batch,).

    Returns:
        Shape (batch, source, time), zeros after each mixture's end.
    """
    masked = (masks * spectrogram.unsqueeze(-1)).permute(0, 3, 1, 2)
    samples = num_samples.tolist()
    return stft.inverse_each(masked, samples, max(samples))
