"""SI-SDR in batched torch, and the order of estimates that scores best. `(estimate, reference)` order everywhere."""

import torch
from torch import Tensor

from separation.model.assignment import best_assignment

LIMIT_DB = 100.0
"""Scores are bounded to +-100 dB: a perfect estimate scores 100. A silent estimate or reference has none: NaN."""


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """10 log10(||a s||^2 / ||a s - s^||^2), a = <s^, s> / ||s||^2 (Le Roux et al., 2019), without removing the mean.

    Args:
        estimate, reference: shapes (..., time) that broadcast; computed in float64.

    Returns:
        dB, shape (...), within +-100; NaN where a signal is silent.
    """
    estimate, reference = estimate.double(), reference.double()
    energy = reference.square().sum(-1)
    scale = (estimate * reference).sum(-1) / energy.clamp(min=torch.finfo(torch.float64).tiny)
    target = scale.unsqueeze(-1) * reference
    ratio = target.square().sum(-1) / (target - estimate).square().sum(-1)
    undefined = (energy == 0) | (estimate.square().sum(-1) == 0)
    return (10 * torch.log10(ratio)).clamp(-LIMIT_DB, LIMIT_DB).masked_fill(undefined, torch.nan)


def best_permutation(estimates: Tensor, references: Tensor) -> Tensor:
    """The order of estimates with the highest mean SI-SDR, where a pair without a score counts as the worst.

    Args:
        estimates, references: shape (batch, source, time).

    Returns:
        The estimate that each reference gets, shape (batch, source).
    """
    pairwise = si_sdr(estimates.unsqueeze(2), references.unsqueeze(1))
    return best_assignment(-pairwise.nan_to_num(nan=-LIMIT_DB))[1]
