"""Scale-invariant SDR in batched torch, and BSS Eval by museval. `(estimate, reference)` order everywhere."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from separation import compat
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


class BssEval(NamedTuple):
    """BSS Eval's scores of one mixture in dB, shape (source,) each."""

    sdr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray


def score_what_is_there(
    score: Callable[[np.ndarray, np.ndarray, int], BssEval],
    estimates: np.ndarray,
    references: np.ndarray,
    num_taps: int,
) -> BssEval:
    """Scores the sources of which both signals are there, and gives the others NaN.

    A silent reference interferes with no other source, so the others are scored without it; a silent estimate has no
    part in the others' scores, so its reference takes its place.
    """
    there, estimated = ((signals != 0).any(axis=1) for signals in (references, estimates))
    scores = np.full((len(BssEval._fields), len(references)), np.nan)
    if there.any():
        stand_ins = np.where(estimated[:, None], estimates, references)
        scores[:, there] = score(stand_ins[there], references[there], num_taps)
        scores[:, ~estimated] = np.nan
    return BssEval(*scores)


def bss_eval_by_museval(estimates: np.ndarray, references: np.ndarray, num_taps: int) -> BssEval:
    """museval's BSS Eval over whole signals, estimates in the references' order.

    With one tap, the SDR is the SI-SDR, and SIR and SAR are the scale-invariant ones; with 512 they are those of BSS
    Eval (Vincent et al., 2006).

    Args:
        estimates, references: shape (source, time).
        num_taps: length of the distortion filter that is forgiven.

    Returns:
        dB within +-100; NaN for a source of which a signal is silent, which museval refuses.
    """
    return score_what_is_there(_museval, estimates, references, num_taps)


def _museval(estimates: np.ndarray, references: np.ndarray, num_taps: int) -> BssEval:
    with np.errstate(divide="ignore", invalid="ignore"):
        sdr, _, sir, sar, _ = compat.museval().metrics.bss_eval(
            references.astype(np.float64)[..., None],
            estimates.astype(np.float64)[..., None],
            window=np.inf,
            hop=np.inf,
            filters_len=num_taps,
            bsseval_sources_version=True,
        )
    return BssEval(*(np.clip(np.nan_to_num(x[:, 0], nan=-LIMIT_DB), -LIMIT_DB, LIMIT_DB) for x in (sdr, sir, sar)))
