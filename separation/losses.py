"""The paper's training losses. Each takes a network's outputs and a batch's features and returns a scalar.

Every loss is the mean of its batch's utterances.
"""

import torch
from torch import Tensor

from separation.assignment import best_assignment
from separation.errors import check_number
from separation.features import Features

Outputs = dict[str, Tensor]


def l1_pit(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference under each utterance's best permutation of sources.

    Args:
        estimate, reference: shape (batch, frame, frequency, source).

    Returns:
        Shape (batch,).
    """
    difference = (estimate.unsqueeze(-1) - reference.unsqueeze(-2)).abs()
    return best_assignment(difference.mean((1, 2)))[0]


def whitened_kmeans(embedding: Tensor, assignment: Tensor, weight: Tensor) -> Tensor:
    """L_WKM = D - tr((V'V)^-1 V'Y (Y'Y)^-1 Y'V) (Wang et al., 2018): D - C at best for C sources.

    Solved by Cholesky's decomposition of V'V + 1e-6 (tr(V'V) / D) I, since a plain inverse fails near perfect
    embeddings, where V'V has rank C. Y'Y is diagonal; a source without bins counts as one.

    Args:
        embedding: V, shape (batch, frame, frequency, D).
        assignment: Y, one-hot, shape (batch, frame, frequency, source).
        weight: of each bin, shape (batch, frame, frequency); bins of weight 0 count nowhere.

    Returns:
        Shape (batch,), float64.
    """
    size = embedding.shape[-1]
    weighted = (embedding * weight.unsqueeze(-1)).transpose(2, 3)
    # Summed over frequencies in the embedding's precision and over frames in float64: the rounding of float32 sums
    # over all bins would be as large as the ridge.
    gram = (weighted @ embedding).double().sum(1)
    cross = (weighted @ assignment).double().sum(1)
    counts = (assignment * weight.unsqueeze(-1)).double().sum((1, 2)).clamp(min=1)
    trace = gram.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    # A silent utterance has no bins: its Gram matrix is zero, and the identity in its place makes the loss D.
    ridge = torch.where(trace > 0, 1e-6 / size * trace, 1.0)
    factor = torch.linalg.cholesky(gram + ridge * torch.eye(size, device=gram.device, dtype=gram.dtype))
    whitened = torch.linalg.solve_triangular(factor, cross / counts.sqrt().unsqueeze(1), upper=False)
    return size - whitened.square().sum((1, 2))


class MaskInferenceLoss:
    """L_MI: L1 distance of the masked mixture magnitude to the truncated phase-sensitive target, permutation-invariant
    by utterance, averaged over bins and sources.

    `L_MI = 1/N || |S^| - T_0^|X|(|S| cos(theta_S^ - theta_S)) ||_1`, S^ = mask * X.
    """

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `mask` of shape (batch, frame, frequency, source). Returns a scalar."""
        estimate = outputs["mask"] * features.mixture_magnitude.unsqueeze(-1)
        return l1_pit(estimate, features.phase_sensitive_targets).mean()


class WhitenedKMeansLoss:
    """L_WKM on the bins within `threshold` dB of the utterance's peak: the others are silence or padding."""

    def __init__(self, threshold: float) -> None:
        check_number("model.loss.threshold", threshold, 1, 120)
        self.threshold = threshold

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `embedding` of shape (batch, frame, frequency, D). Returns a scalar."""
        weight = features.audible(self.threshold)
        return whitened_kmeans(outputs["embedding"], features.dominant_source, weight).mean()
