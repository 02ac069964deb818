"""The paper's training losses. Each takes a network's outputs and a batch's features and returns a scalar.

Every loss is the mean of its batch's utterances. Silence, padding and sources that an excerpt lacks give finite values
and gradients.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from separation.errors import InputError, check_choice, check_number
from separation.model.assignment import best_assignment
from separation.model.features import Features
from separation.model.outputs import output

Outputs = dict[str, Tensor]
Loss = Callable[[Outputs, Features], Tensor]
TARGETS = ("phase_sensitive", "magnitude")
WEIGHTS = ("equal", "magnitude_ratio")
METRICS = ("snr", "si_sdr")


def l1_pit(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference under each utterance's best permutation of sources.

    Args:
        estimate, reference: shape (batch, frame, frequency, source).

    Returns:
        Shape (batch,).
    """
    order = best_assignment(_pairwise_l1(estimate.detach(), reference))[1]
    # The gradient passes through the best pairs only, which is several times faster than through all of them.
    theirs = order.argsort(1)[:, None, None].expand_as(reference)
    return (estimate - reference.gather(-1, theirs)).abs().mean((1, 2, 3))


def _pairwise_l1(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference of every estimate from every reference: (batch, frame, frequency, source) twice ->
    (batch, estimate, reference)."""
    count = estimate.shape[-1]
    if reference.shape[-1] != count:
        raise InputError(f"model.num_sources={count}: the mixtures have {reference.shape[-1]} sources")
    # Column k compares estimate i with reference i - k: whole tensors at once, as they lie in memory.
    rolled = torch.stack([(estimate - reference.roll(k, -1)).abs().mean((1, 2)) for k in range(count)], dim=-1)
    source = torch.arange(count, device=estimate.device)
    return rolled.gather(2, (source.unsqueeze(1) - source).remainder(count).expand_as(rolled))


def snr_pit(estimate: Tensor, reference: Tensor, scale_invariant: bool = False) -> Tensor:
    """L_SNR = -10 log10(||s||^2 / ||s - s^||^2) under each utterance's best permutation of sources, in dB.

    Signal and error count as at least 1e-10 of the mixture's energy, so the loss lies within +-100 dB or so of the
    error's level beside the mixture; a silent source's loss is that of the error's level, and a silent mixture's 0.

    Args:
        estimate, reference: shape (batch, source, time).
        scale_invariant: SI-SDR instead: s is scaled by <s^, s> / ||s||^2.

    Returns:
        Shape (batch,).
    """
    return best_assignment(-pairwise_snr(estimate, reference, scale_invariant))[0]


def pairwise_snr(estimate: Tensor, reference: Tensor, scale_invariant: bool = False) -> Tensor:
    """10 log10(||s||^2 / ||s - s^||^2) of every estimate with every reference, differentiable.

    Signal and error count as at least 1e-10 of the mixture's energy.

    Args:
        estimate, reference: shape (batch, source, time).
        scale_invariant: s is scaled by <s^, s> / ||s||^2 first.

    Returns:
        dB, shape (batch, estimate, reference).
    """
    tiny = torch.finfo(reference.dtype).tiny
    floor = 1e-10 * reference.sum(1).square().sum(-1)[:, None, None] + tiny
    target = reference.unsqueeze(1)
    if scale_invariant:
        scale = estimate @ reference.transpose(1, 2) / reference.square().sum(-1).unsqueeze(1).clamp(min=tiny)
        target = scale.unsqueeze(-1) * target
    error = (estimate.unsqueeze(2) - target).square().sum(-1)
    return 10 * torch.log10((target.square().sum(-1) + floor) / (error + floor))


def deep_clustering(embedding: Tensor, assignment: Tensor, weight: Tensor) -> Tensor:
    """L_DC = ||W^1/2 (VV' - YY') W^1/2||_F^2 (Hershey et al., 2016) with weights of sum 1: from 0 to 1.

    Computed as ||V'WV||^2 - 2 ||V'WY||^2 + ||Y'WY||^2, from matrices of at most D x D; the affinities of all pairs of
    bins are never formed.

    Args:
        embedding: V, unit vectors, shape (batch, frame, frequency, D).
        assignment: Y, one-hot, shape (batch, frame, frequency, source).
        weight: of each bin, shape (batch, frame, frequency); bins of weight 0 count nowhere.

    Returns:
        Shape (batch,), float64; 0 where all weights are 0.
    """
    gram, cross, counts = _moments(embedding, assignment, weight)
    total = counts.sum(-1)
    squares = gram.square().sum((1, 2)) - 2 * cross.square().sum((1, 2)) + counts.square().sum(-1)
    return squares / torch.where(total > 0, total, 1.0).square()


def whitened_kmeans(embedding: Tensor, assignment: Tensor, weight: Tensor) -> Tensor:
    """L_WKM = D - tr((V'V)^-1 V'Y (Y'Y)^-1 Y'V) (Wang et al., 2018): D - C at best for C sources.

    Solved by Cholesky's decomposition of V'V + 1e-6 (tr(V'V) / D) I, since a plain inverse fails near perfect
    embeddings, where V'V has rank C. Y'Y is diagonal; a source without bins adds nothing.

    Args:
        embedding: V, shape (batch, frame, frequency, D).
        assignment: Y, one-hot, shape (batch, frame, frequency, source).
        weight: of each bin, shape (batch, frame, frequency); bins of weight 0 count nowhere.

    Returns:
        Shape (batch,), float64; D where all weights are 0.
    """
    size = embedding.shape[-1]
    gram, cross, counts = _moments(embedding, assignment, weight)
    trace = gram.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    # A silent utterance has no bins: its Gram matrix is zero, and the identity in its place makes the loss D.
    ridge = torch.where(trace > 0, 1e-6 / size * trace, 1.0)
    factor, failed = torch.linalg.cholesky_ex(gram + ridge * torch.eye(size, device=gram.device, dtype=gram.dtype))
    factor = factor.masked_fill(failed[:, None, None] > 0, torch.nan)  # V holds NaN: so does the loss
    scale = torch.where(counts > 0, counts, 1.0).rsqrt().unsqueeze(1)
    whitened = torch.linalg.solve_triangular(factor, cross * scale, upper=False)
    return size - whitened.square().sum((1, 2))


def _moments(embedding: Tensor, assignment: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """V'WV, V'WY and the diagonal of Y'WY, in float64."""
    gram, cross = _WeightedProducts.apply(embedding, assignment, weight)  # type: ignore[no-untyped-call]
    return gram, cross, (assignment * weight.unsqueeze(-1)).double().sum((1, 2))


class _WeightedProducts(torch.autograd.Function):
    """V'WV and V'WY, in float64, with a gradient for V that passes over the embeddings once, not seven times: they are
    the largest tensor of a training step, and reading it is what an embedding loss costs."""

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, assignment: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        weighted = torch.cat([embedding, assignment], -1).mul_(weight.unsqueeze(-1))  # W (V Y)
        ctx.save_for_backward(weighted)
        # Summed over frequencies in the embedding's precision and over frames in float64: the rounding of float32 sums
        # over all bins would be as large as what tells a good embedding from a perfect one.
        products = (embedding.transpose(2, 3) @ weighted).double().sum(1)
        gram, cross = products.tensor_split((embedding.shape[-1],), dim=-1)
        return gram, cross

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gram: Tensor, cross: Tensor) -> tuple[Tensor, None, None]:
        """W (V (G + G') + Y C') for the gradients G of V'WV and C of V'WY."""
        (weighted,) = ctx.saved_tensors
        factor = torch.cat([gram + gram.transpose(1, 2), cross.transpose(1, 2)], 1).to(weighted)
        return torch.bmm(weighted.flatten(1, 2), factor).unflatten(1, weighted.shape[1:3]), None, None


class ScaledLoss:
    """A loss in other units, to see what depends on them; the network's input stays as it is.

    Args:
        loss: which one.
        scale: what it is multiplied by.
        magnitude_scale: what the signals that it reads are multiplied by. An STFT without normalisation has 128 times
            the magnitudes, with a window of 256 samples.
    """

    def __init__(self, loss: Loss, scale: float, magnitude_scale: float) -> None:
        check_number("loss_scale", scale, 1e-12, 1e12)
        check_number("magnitude_scale", magnitude_scale, 1e-6, 1e6)
        self.loss = loss
        self.scale = scale
        self.magnitude_scale = magnitude_scale

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Returns a scalar."""
        return self.scale * self.loss(outputs, features.scaled(self.magnitude_scale))


class MaskInferenceLoss:
    """L_MI: L1 distance of the masked mixture magnitude to the target, permutation-invariant by utterance, averaged
    over bins and sources.

    `L_MI = 1/N || |S^| - T_0^|X|(|S| cos(theta_S^ - theta_S)) ||_1`, S^ = mask * X.

    Args:
        target: "phase_sensitive", the paper's; or "magnitude", |S|.
    """

    def __init__(self, target: str = "phase_sensitive") -> None:
        self.target = check_choice("model.target", target, TARGETS)

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `mask` of shape (batch, frame, frequency, source). Returns a scalar."""
        mask = output(outputs, "mask", features.mixture, "model.loss")
        estimate = mask * features.mixture_magnitude.unsqueeze(-1)
        magnitude = self.target == "magnitude"
        return l1_pit(estimate, features.source_magnitudes if magnitude else features.phase_sensitive_targets).mean()


class WaveformLoss:
    """L_SNR of the network's waveforms, permutation-invariant by utterance; or of those that its masks make of the
    mixture, with its phase.

    Args:
        metric: "snr", the paper's; or "si_sdr".
    """

    def __init__(self, metric: str = "snr") -> None:
        self.metric = check_choice("model.metric", metric, METRICS)

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `waveform` of shape (batch, source, time), or `mask` as in L_MI. Returns a scalar, in dB."""
        if "waveform" in outputs or "mask" not in outputs:
            estimate = output(outputs, "waveform", features.mixture, "model.loss")
        else:
            estimate = features.masked(output(outputs, "mask", features.mixture, "model.loss"))
        return snr_pit(estimate, features.sources, scale_invariant=self.metric == "si_sdr").mean()


class EmbeddingWeights:
    """Which bins count in the embedding losses, and how much.

    Args:
        threshold: bins further than so many dB below the utterance's peak count as silent: not at all.
        weights: of the others: "equal", the paper's; or "magnitude_ratio" (Wang et al., 2018): |X| over its mean.
    """

    def __init__(self, threshold: float, weights: str = "equal") -> None:
        check_number("model.threshold", threshold, 1, 120)
        self.threshold = threshold
        self.weights = check_choice("model.weights", weights, WEIGHTS)

    def __call__(self, features: Features) -> Tensor:
        """Shape (batch, frame, frequency)."""
        audible = features.audible(self.threshold)
        if self.weights == "equal":
            return audible
        magnitude = audible * features.mixture_magnitude
        mean = magnitude.sum((1, 2), keepdim=True) / audible.sum((1, 2), keepdim=True).clamp(min=1)
        return magnitude / mean.clamp(min=torch.finfo(mean.dtype).tiny)


class DeepClusteringLoss:
    """L_DC. Args: see `EmbeddingWeights`."""

    def __init__(self, threshold: float, weights: str = "equal") -> None:
        self.weight = EmbeddingWeights(threshold, weights)

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `embedding` of shape (batch, frame, frequency, D). Returns a scalar."""
        embedding = output(outputs, "embedding", features.mixture, "model.loss")
        return deep_clustering(embedding, features.dominant_source, self.weight(features)).mean()


class WhitenedKMeansLoss:
    """L_WKM. Args: see `EmbeddingWeights`."""

    def __init__(self, threshold: float, weights: str = "equal") -> None:
        self.weight = EmbeddingWeights(threshold, weights)

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `embedding` of shape (batch, frame, frequency, D). Returns a scalar."""
        embedding = output(outputs, "embedding", features.mixture, "model.loss")
        return whitened_kmeans(embedding, features.dominant_source, self.weight(features)).mean()


class ChimeraLoss:
    """L_MI+WKM = alpha L_MI + (1 - alpha) L_WKM (Wang et al., 2018).

    Args:
        alpha: in [0, 1].
        target: see `MaskInferenceLoss`.
        threshold, weights: see `EmbeddingWeights`.
    """

    def __init__(self, alpha: float, threshold: float, target: str = "phase_sensitive", weights: str = "equal") -> None:
        check_number("model.alpha", alpha, 0, 1)
        self.alpha = alpha
        self.mask_inference = MaskInferenceLoss(target)
        self.whitened_kmeans = WhitenedKMeansLoss(threshold, weights)

    def __call__(self, outputs: Outputs, features: Features) -> Tensor:
        """Args: `mask` and `embedding`. Returns a scalar."""
        masks, embedding = self.mask_inference(outputs, features), self.whitened_kmeans(outputs, features)
        return self.alpha * masks + (1 - self.alpha) * embedding
