"""What listeners would make of a signal, as people predict it: intelligibility (STOI, ESTOI) and quality (PESQ), by the
packages pystoi and pesq. `(estimate, reference)` order everywhere."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

from separation.errors import InputError

LONGEST_PESQ = 20
"""In seconds. ITU-T's program has room for 50 utterances of at least 0.2 s each and 0.2 s apart, and crashes beyond."""
PESQ_MODES = {8000: "nb", 16_000: "wb"}
"""By rate in Hz: narrow band (P.862.1) and wide band (P.862.2)."""


def stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al., 2011), at most 1.

    Args:
        estimate, reference: shape (time,).

    Returns:
        NaN where fewer than 30 frames are left (0.4 s) once the reference's silent ones are removed.
    """
    return _stoi(estimate, reference, sample_rate, extended=False)


def estoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Extended STOI, for noise that fluctuates (Jensen & Taal, 2016), at most 1; see `stoi`."""
    return _stoi(estimate, reference, sample_rate, extended=True)


def _stoi(estimate: np.ndarray, reference: np.ndarray, sample_rate: int, extended: bool) -> float:
    from pystoi import stoi as pystoi

    if len(reference) < 0.1 * sample_rate:  # less than a frame would end in an error
        return np.nan
    with warnings.catch_warnings(), _numpy_seed(0):
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(pystoi(reference.astype(np.float64), estimate.astype(np.float64), sample_rate, extended))
        except RuntimeWarning:
            return np.nan  # pystoi would return 1e-5


def pesq(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
    """Perceptual evaluation of speech quality (ITU-T P.862), MOS-LQO from 1 to 4.64: narrow band at 8 kHz, wide band at
    16 kHz.

    Args:
        estimate, reference: shape (time,).

    Returns:
        NaN where no utterance is detected, or a signal is shorter than 0.25 s or longer than `LONGEST_PESQ`.
    """
    from pesq import PesqError
    from pesq import pesq as pesq_by_itu

    if len(reference) > LONGEST_PESQ * sample_rate:
        return np.nan
    try:
        return float(pesq_by_itu(sample_rate, reference, estimate, PESQ_MODES[sample_rate]))
    except PesqError:
        return np.nan


PERCEPTUAL: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {"stoi": stoi, "estoi": estoi, "pesq": pesq}
UNDEFINED = {
    "stoi": "less than 0.4 s of speech",
    "pesq": f"no utterance detected, shorter than 0.25 s or longer than {LONGEST_PESQ} s",
}
"""Why a score is NaN; ESTOI is where STOI is."""


def perceptual_scores(
    names: tuple[str, ...], estimates: np.ndarray, mixture: np.ndarray, references: np.ndarray, sample_rate: int
) -> dict[str, np.ndarray]:
    """Scores of a mixture's estimates, and as `input_...` of the mixture itself: both or neither are NaN.

    Args:
        names: keys of `PERCEPTUAL`.
        estimates, references: shape (source, time).
        mixture: shape (time,).
    """
    columns: dict[str, np.ndarray] = {}
    for name in names:
        score = PERCEPTUAL[name]
        pairs = np.full((len(references), 2), np.nan)
        for pair, estimate, reference in zip(pairs, estimates, references, strict=True):
            if estimate.any() and reference.any():
                pair[:] = score(mixture, reference, sample_rate), score(estimate, reference, sample_rate)
        pairs[np.isnan(pairs).any(axis=1)] = np.nan
        columns |= {f"input_{name}": pairs[:, 0], name: pairs[:, 1]}
    return columns


def check_perceptual(names: tuple[str, ...], sample_rate: int) -> None:
    """Raises InputError where one of `PERCEPTUAL` can't be computed at a rate, or its package isn't installed."""
    if {"stoi", "estoi"} & {*names} and find_spec("pystoi") is None:
        raise InputError("stoi=true: the package pystoi isn't installed; install it with: pip install pystoi")
    if "pesq" in names:
        if sample_rate not in PESQ_MODES:
            raise InputError(
                f"pesq=true: PESQ is defined at 8000 and 16000 Hz, not at data.sample_rate={sample_rate}; leave it out,"
                " or train at one of these rates"
            )
        if find_spec("pesq") is None:
            raise InputError(
                "pesq=true: the package pesq isn't installed; install it with: pip install pesq (it is compiled, which"
                " needs a C compiler and Python's headers, and its licence is for evaluations that aren't commercial)"
            )


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """NumPy's global generator from a seed, inside of the `with` only: ESTOI adds noise of 1e-16 of its own, which is
    all that there is to compare where an estimate is silent."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
