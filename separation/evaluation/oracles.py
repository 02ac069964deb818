"""Masks that are computed from the references: what masks could reach at best, beside what a network reaches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from separation.data.mixtures import Batch
from separation.errors import check_choice
from separation.model.features import Features, Stft, features
from separation.model.separators import apply_masks

MIXTURE = "mixture"
"""The name of the oracle that does nothing."""


def ideal_binary_mask(features: Features) -> Tensor:
    """1 for the loudest source of each bin, unless noise is louder, shape (batch, frame, frequency, source)."""
    if features.noise_magnitude is None:
        return features.dominant_source
    return features.dominant_source * (features.source_magnitudes >= features.noise_magnitude)


def ideal_ratio_mask(features: Features) -> Tensor:
    """|S_i| / sum_j |S_j|, noise in the sum, shape (batch, frame, frequency, source)."""
    return _shares(features, power=1)


def wiener_like_mask(features: Features) -> Tensor:
    """|S_i|^2 / sum_j |S_j|^2, noise in the sum, shape (batch, frame, frequency, source)."""
    return _shares(features, power=2)


def _shares(features: Features, power: int) -> Tensor:
    """Each source's part of the sum of all magnitudes, raised to a power."""
    values = features.source_magnitudes**power
    total = values.sum(-1, keepdim=True)
    if features.noise_magnitude is not None:
        total = total + features.noise_magnitude**power
    return values / total.clamp(min=torch.finfo(values.dtype).tiny)


def phase_sensitive_mask(features: Features) -> Tensor:
    """T_0^1(|S| cos(theta_S - theta_X) / |X|), shape (batch, frame, frequency, source)."""
    magnitude = features.mixture_magnitude.unsqueeze(-1)
    return features.phase_sensitive_targets / magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny)


ORACLES: dict[str, Callable[[Features], Tensor]] = {
    "ideal_binary": ideal_binary_mask,
    "ideal_ratio": ideal_ratio_mask,
    "wiener_like": wiener_like_mask,
    "phase_sensitive": phase_sensitive_mask,
}


@dataclass(frozen=True)
class OracleEstimator:
    """What an oracle's masks make of whole mixtures; or the mixtures as they are."""

    name: str
    """A key of `ORACLES`, or "mixture"."""
    stft: Stft

    def __post_init__(self) -> None:
        check_choice("oracle", self.name, (*ORACLES, MIXTURE))

    def __call__(self, batch: Batch) -> Tensor:
        if self.name == MIXTURE:
            return batch.mixture.unsqueeze(1).expand_as(batch.sources)
        feats = features(batch.sources, self.stft, batch.noise)
        return apply_masks(ORACLES[self.name](feats), feats.mixture_stft, self.stft, batch.num_samples)
