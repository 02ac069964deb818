"""Spectral clipping (Yukhimchuk, Kolar, Takáč, Choudhury, 2026)."""

from array import array
from typing import Any

import torch
from torch import Tensor

from gradclip.checks import check_count, check_percentile, check_positive, warn_of_small_percentile
from gradclip.clipper import TensorClipper
from gradclip.gradients import Gradients
from gradclip.percentile import StreamingPercentile
from gradclip.result import ClipResult
from gradclip.state import State
from gradclip.tensors import multiply_

SMALLEST_RATIO = 1e-8
"""Below it, the difference of a value and what is cut off of it loses too many of its digits."""


class SpectralClip(TensorClipper):
    """Bounds the singular values of each gradient matrix by a percentile of its own largest ones, or by a constant.

    With G = U diag(s) V^T the gradient of a tensor as a matrix of its first dimension by all others: tau is the p-th
    percentile of the largest singular values s_1 seen so far, the current one included, or `threshold`;
    G <- U diag(min(s, tau)) V^T. A bad sample raises a few singular values; this lowers them and leaves the rest, where
    a bound of the norm makes all smaller. A vector's singular value is its norm. A gradient with s_1 <= tau is not
    touched. Zero gradients are not recorded.

    It takes the eigenvectors q of G G^T (or of G^T G, which is smaller for a tall matrix) whose s is above tau, and
    G <- G - sum of (1 - tau / s) q q^T G, in float64: the values below tau, which a Gram matrix gives badly, don't
    enter. Where tau is below 1e-8 s_1, it takes the whole singular value decomposition.

    Args:
        p: percentile in [0, 100].
        window: how many of a tensor's last s_1 count, >= 1; None: all.
        threshold: a constant bound > 0 for all tensors, in place of the percentile.
        on_nonfinite: see `Clipper`.

    Reference: A. Yukhimchuk, M. Kolar, M. Takáč, S. Choudhury, "Gradient Clipping Beyond Vector Norms: A Spectral
    Approach for Matrix-Valued Parameters", 2026, arXiv:2605.11838; its layer-wise thresholds are quantiles too.
    State: every s_1 of every tensor (or the last `window`), 8 bytes each; none with `threshold`. Cost: an
    eigendecomposition for each matrix, of its smaller side, which grows with that side's cube; with `threshold`, only
    for those whose norm is above it. Needs names.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(
        self, p: float = 10.0, window: int | None = None, threshold: float | None = None, on_nonfinite: str = "skip"
    ) -> None:
        super().__init__(on_nonfinite)
        self.p = check_percentile("p", p)
        warn_of_small_percentile("p", self.p)
        self.window = None if window is None else check_count("window", window)
        self.threshold = None if threshold is None else check_positive("threshold", threshold)
        self._histories: dict[str, StreamingPercentile] = {}

    @property
    def history(self) -> "dict[str, array[float]]":
        """The largest singular values that count of each tensor, in their order. A copy."""
        return {name: history.values for name, history in self._histories.items()}

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        grads.require_plain("SpectralClip")
        norm, norms, least = grads.norm, grads.norms, self.threshold or 0.0
        due = [index for index, tensor_norm in enumerate(norms) if tensor_norm > least]  # no s_1 is above its norm
        if due:
            tensors = grads.entries()
            for index in due:
                if tensors[index].ndim < 2:
                    self._clip_vector_(grads.names[index], tensors[index], norms[index])
                else:
                    self._clip_matrix_(grads.names[index], tensors[index])
        return ClipResult(norm, coefficient=grads.coefficient())

    def _clip_vector_(self, name: str, vector: Tensor, norm: float) -> None:
        tau = self._bound(name, norm)
        if tau < norm:
            multiply_([vector], [tau / norm])

    def _clip_matrix_(self, name: str, tensor: Tensor) -> None:
        matrix = tensor.flatten(1).double()
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        squares, vectors = torch.linalg.eigh(wide @ wide.T)
        values = squares.clamp(min=0).sqrt()
        largest = float(values[-1])
        tau = self._bound(name, largest)
        if tau < SMALLEST_RATIO * largest:
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            tensor.copy_(((left * values.clamp(max=tau)) @ right).view(tensor.shape))
        elif tau < largest:
            above = values > tau
            vectors = vectors[:, above]
            wide -= (vectors * (1 - tau / values[above])) @ (vectors.T @ wide)
            tensor.copy_(matrix.view(tensor.shape))

    def _bound(self, name: str, largest: float) -> float:
        """Tau, with this largest singular value."""
        if self.threshold is not None:
            return self.threshold
        history = self._histories.get(name)
        if history is None:
            history = self._histories[name] = StreamingPercentile(self.window)
        history.add(largest)
        return history.percentile(self.p)

    def _state(self) -> dict[str, Any]:
        history = tuple((name, history.tensor()) for name, history in self._histories.items())
        return {"window": self.window, "history": history}

    def _restore(self, state: State) -> None:
        state.expect("window", self.window)
        histories = state.histories("history")
        self._histories = {name: StreamingPercentile(self.window, values) for name, values in histories.items()}
        self._restored = set(histories)
