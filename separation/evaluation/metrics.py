"""SI-SDR and BSS Eval of a batch's estimates, by museval or by torch. `(estimate, reference)` order everywhere."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from separation.evaluation.bss_eval import bss_eval
from separation.evaluation.bss_eval_by_museval import BssEval, bss_eval_by_museval
from separation.model.si_sdr import si_sdr

BSS_EVAL_TAPS = 512


def si_sdr_by_museval(estimates: Tensor, references: Tensor, num_samples: Tensor) -> np.ndarray:
    """SI-SDR in dB, shape (batch, source), by museval's one-tap BSS Eval."""
    scores = [
        bss_eval_by_museval(estimate[:, :length].numpy(), reference[:, :length].numpy(), num_taps=1).sdr
        for estimate, reference, length in zip(estimates, references, num_samples.tolist(), strict=True)
    ]
    return np.stack(scores)


def centred(signals: Tensor, num_samples: Tensor) -> Tensor:
    """Signals without their means, shape (batch, source, time), zeros after each mixture's end."""
    inside = torch.arange(signals.shape[-1]) < num_samples[:, None, None]
    return (signals - signals.sum(-1, keepdim=True) / num_samples[:, None, None]) * inside


def si_sdr_by_torch(estimates: Tensor, references: Tensor, num_samples: Tensor) -> np.ndarray:
    """SI-SDR in dB, shape (batch, source); the zeros after a mixture's end change nothing."""
    return si_sdr(estimates, references).numpy()


SI_SDR: dict[str, Callable[[Tensor, Tensor, Tensor], np.ndarray]] = {
    "museval": si_sdr_by_museval,
    "torch": si_sdr_by_torch,
}
BSS_EVAL: dict[str, Callable[[np.ndarray, np.ndarray, int], BssEval]] = {
    "museval": bss_eval_by_museval,
    "torch": bss_eval,
}
