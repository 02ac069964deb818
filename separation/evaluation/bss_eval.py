"""BSS Eval (Vincent et al., 2006) of whole signals: museval's numbers, several times faster.

An estimate is split into what a filter of so many taps makes of its reference (the target), what filters make of all
references beyond that (interference), and the rest (artifacts); the scores are ratios of their energies.
"""

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from scipy.linalg.lapack import dpotrf, dpotrs

from separation.evaluation.bss_eval_by_museval import BssEval, bss_eval_by_museval, score_what_is_there
from separation.model.si_sdr import LIMIT_DB


def bss_eval(estimates: np.ndarray, references: np.ndarray, num_taps: int = 512) -> BssEval:
    """Scores of one mixture, estimates in the references' order; computed in float64.

    museval solves for each estimate with the references' correlations anew; here one Cholesky factor serves them all,
    and energies are summed over frequencies instead of samples (Parseval).

    Args:
        estimates, references: shape (source, time).
        num_taps: length of the distortion filters that are forgiven.

    Returns:
        dB within +-100, shape (source,) each; NaN for a source of which a signal is silent.
    """
    return score_what_is_there(_bss_eval, estimates, references, num_taps)


def _bss_eval(estimates: np.ndarray, references: np.ndarray, num_taps: int) -> BssEval:
    size = scipy.fft.next_fast_len(references.shape[-1] + num_taps - 1, real=True)
    ours, theirs = (scipy.fft.rfft(signals.astype(np.float64), size) for signals in (references, estimates))
    try:
        filters = _filters(ours, theirs, size, num_taps)
    except np.linalg.LinAlgError:
        return bss_eval_by_museval(estimates, references, num_taps)
    from_own, from_all = (scipy.fft.rfft(taps, size) for taps in filters)
    target, projection = ours * from_own, (ours * from_all).sum(1)
    return BssEval(
        sdr=_decibels(target, theirs - target, size),
        sir=_decibels(target, projection - target, size),
        sar=_decibels(projection, theirs - projection, size),
    )


def _filters(references: np.ndarray, estimates: np.ndarray, size: int, num_taps: int) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares filters for each estimate, from spectra of `size` samples.

    Returns:
        From its own reference, shape (source, tap), and from all of them, shape (estimate, reference, tap).

    Raises:
        LinAlgError: the references' delays depend on one another, as a sinusoid's do.
    """
    count, total = len(references), len(references) * num_taps
    blocks = [slice(i * num_taps, (i + 1) * num_taps) for i in range(count)]
    # gram[i a, j b] = <source i delayed by a, source j delayed by b>, of which Cholesky reads the lower triangle.
    gram = np.empty((total, total), order="F")
    for i in range(count):
        for j in range(i + 1):
            gram[blocks[i], blocks[j]] = _toeplitz(references[i], references[j], size, num_taps)
    own_grams = [gram[block, block].copy(order="F") for block in blocks]
    cross = np.stack([_correlation(reference, estimates, size)[:, :num_taps] for reference in references])
    from_own = np.stack([_solve(own_gram, cross[i, i]) for i, own_gram in enumerate(own_grams)])
    from_all = _solve(gram, cross.transpose(0, 2, 1).reshape(total, count))
    return from_own, from_all.T.reshape(count, count, num_taps)


def _correlation(first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    """sum_t first[t] second[t + lag] of spectra, at index lag, or size + lag where that is negative."""
    return scipy.fft.irfft(first.conj() * second, size)


def _toeplitz(first: np.ndarray, second: np.ndarray, size: int, num_taps: int) -> np.ndarray:
    """<first delayed by a, second delayed by b> at [a, b]: their correlation at lag a - b."""
    lags = _correlation(first, second, size)
    falling = np.concatenate([lags[num_taps - 1 :: -1], lags[: size - num_taps : -1]])
    return sliding_window_view(falling, num_taps)[::-1]


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves by Cholesky's decomposition, which overwrites the matrix (SciPy's own functions would copy it)."""
    factor, failed = dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    return dpotrs(factor, right, lower=1)[0]


def _decibels(wanted: np.ndarray, rest: np.ndarray, size: int) -> np.ndarray:
    """Ratio of the signals' energies, bounded, from their spectra."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(_energy(wanted, size) / _energy(rest, size))
    return np.clip(np.nan_to_num(ratio, nan=-LIMIT_DB), -LIMIT_DB, LIMIT_DB)


def _energy(spectrum: np.ndarray, size: int) -> np.ndarray:
    """Times `size`: each bin stands for two, but for the first and, where size is even, the last."""
    squares = spectrum.real**2 + spectrum.imag**2
    return 2 * squares.sum(-1) - squares[:, 0] - (squares[:, -1] if size % 2 == 0 else 0)
