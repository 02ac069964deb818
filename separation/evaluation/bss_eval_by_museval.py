"""BSS Eval by museval. `(estimate, reference)` order everywhere."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from separation import compat
from separation.model.si_sdr import LIMIT_DB


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
