import numpy as np
import pytest
import torch

from separation.compat import nussl
from separation.errors import InputError
from separation.model.features import Stft, features
from separation.model.losses import (
    ChimeraLoss,
    DeepClusteringLoss,
    EmbeddingWeights,
    MaskInferenceLoss,
    ScaledLoss,
    WaveformLoss,
    WhitenedKMeansLoss,
    deep_clustering,
    l1_pit,
    snr_pit,
    whitened_kmeans,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit_embeddings(batch: int, bins: int, size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Shape (batch, frame, frequency, size) with ten frequencies."""
    raw = torch.rand(batch, bins // 10, 10, size, generator=generator(), dtype=dtype)
    return torch.nn.functional.normalize(raw, dim=-1)


def one_hot(batch: int, bins: int, count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    labels = torch.randint(count, (batch, bins // 10, 10), generator=generator(1))
    return torch.nn.functional.one_hot(labels, count).to(dtype)


def reference_whitened_kmeans(v: np.ndarray, y: np.ndarray) -> float:
    """The paper's equation with explicit inverses."""
    v, y = v.reshape(-1, v.shape[-1]), y.reshape(-1, y.shape[-1])
    middle = np.linalg.inv(v.T @ v) @ v.T @ y @ np.linalg.inv(y.T @ y) @ y.T @ v
    return v.shape[-1] - np.trace(middle)


def reference_deep_clustering(v: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """The paper's equation with the affinities of all pairs of bins."""
    v, y, w = v.reshape(-1, v.shape[-1]), y.reshape(-1, y.shape[-1]), w.reshape(-1)
    root = np.sqrt(w / w.sum())
    return float(np.square(np.outer(root, root) * (v @ v.T - y @ y.T)).sum())


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_deep_clustering_equals_the_affinities_of_all_pairs(count, weighted):
    v, y = unit_embeddings(3, 400, 6), one_hot(3, 400, count)
    w = (
        torch.rand(3, 40, 10, generator=generator(2), dtype=torch.float64)
        if weighted
        else torch.ones(3, 40, 10).double()
    )
    expected = [reference_deep_clustering(*arrays) for arrays in zip(v.numpy(), y.numpy(), w.numpy(), strict=True)]
    assert all(0 < value < 1 for value in expected)
    for dtype in (torch.float64, torch.float32):
        np.testing.assert_allclose(deep_clustering(v.to(dtype), y.to(dtype), w.to(dtype)), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_perfect_embeddings_give_zero(count):
    y = one_hot(1, 500, count, torch.float32)
    basis = torch.linalg.qr(torch.rand(20, count, generator=generator()))[0].T
    v, weight = (y @ basis).requires_grad_(), torch.ones(1, 50, 10)
    loss = deep_clustering(v, y, weight)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and v.grad.abs().max() < 1e-6
    assert whitened_kmeans(v, y, weight).item() == pytest.approx(20 - count, abs=1e-3)


@pytest.mark.parametrize("case", ["one_source", "identical", "silent"])
def test_deep_clustering_of_degenerate_inputs(case):
    v, y, weight = unit_embeddings(1, 200, 20, torch.float32), one_hot(1, 200, 2, torch.float32), torch.ones(1, 20, 10)
    if case == "one_source":
        y = torch.nn.functional.one_hot(torch.zeros(1, 20, 10, dtype=torch.long), 2).float()
        expected = reference_deep_clustering(v.double().numpy(), y.numpy(), weight.numpy())
    elif case == "identical":
        v = v[:, :1, :1].expand_as(v)
        shares = y.mean((0, 1, 2)).double()
        expected = 1 - shares.square().sum().item()  # pairs of different sources, all of which are thought alike
    else:
        weight, expected = torch.zeros(1, 20, 10), 0.0
    v = v.clone().requires_grad_()
    loss = deep_clustering(v, y, weight)
    loss.sum().backward()
    assert torch.isfinite(v.grad).all() and loss.item() == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_deep_clustering_gradient():
    v, y = unit_embeddings(2, 20, 3).requires_grad_(), one_hot(2, 20, 2)
    weight = torch.rand(2, 2, 10, generator=generator(), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: deep_clustering(x, y, weight), v)


def test_whitened_kmeans_gradient_equals_that_of_explicit_inverses():
    v, y = unit_embeddings(1, 400, 6), one_hot(1, 400, 2)

    def explicit(x: torch.Tensor) -> torch.Tensor:
        flat, labels = x.reshape(-1, 6), y.reshape(-1, 2)
        gram = torch.linalg.inv(flat.T @ flat)
        return 6 - torch.trace(gram @ flat.T @ labels @ torch.linalg.inv(labels.T @ labels) @ labels.T @ flat)

    expected = torch.autograd.functional.jacobian(explicit, v)
    single = v.float().requires_grad_()
    whitened_kmeans(single, y.float(), torch.ones(1, 40, 10)).sum().backward()
    assert (single.grad - expected).norm() < 1e-4 * expected.norm()


def test_whitened_kmeans_equals_explicit_inverses():
    v, y = unit_embeddings(3, 400, 6), one_hot(3, 400, 2)
    expected = [reference_whitened_kmeans(a, b) for a, b in zip(v.numpy(), y.numpy(), strict=True)]
    for dtype in (torch.float64, torch.float32):
        loss = whitened_kmeans(v.to(dtype), y.to(dtype), torch.ones(3, 40, 10, dtype=dtype))
        np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-4)


def test_whitened_kmeans_counts_only_bins_with_weight():
    v, y = unit_embeddings(1, 300, 5), one_hot(1, 300, 2)
    weight = torch.ones(1, 30, 10, dtype=torch.float64)
    weight[:, 20:] = 0
    expected = reference_whitened_kmeans(v[0, :20].numpy(), y[0, :20].numpy())
    assert whitened_kmeans(v, y, weight).item() == pytest.approx(expected, rel=1e-4)


def test_perfect_embeddings_give_d_minus_c_with_a_finite_gradient():
    y = one_hot(1, 500, 2, torch.float32)
    v = (y @ torch.nn.functional.normalize(torch.rand(2, 20, generator=generator()), dim=-1)).requires_grad_()
    loss = whitened_kmeans(v, y, torch.ones(1, 50, 10))
    assert loss.item() == pytest.approx(18, abs=1e-3)
    loss.sum().backward()
    assert v.grad.abs().max() < 1e-2


@pytest.mark.parametrize("case", ["one_source", "identical", "silent"])
def test_degenerate_inputs_stay_finite(case):
    v = unit_embeddings(1, 200, 20, torch.float32)
    y, weight = one_hot(1, 200, 2, torch.float32), torch.ones(1, 20, 10)
    limit = None
    if case == "one_source":
        y = torch.nn.functional.one_hot(torch.zeros(1, 20, 10, dtype=torch.long), 2).float()
    elif case == "identical":
        v, limit = v[:, :1, :1].expand_as(v), 19.0  # V spans one direction, in which Y explains everything
    else:
        weight, limit = torch.zeros(1, 20, 10), 20.0
    v = v.clone().requires_grad_()
    loss = whitened_kmeans(v, y, weight)
    loss.sum().backward()
    assert torch.isfinite(v.grad).all()
    assert 18 <= loss.item() <= 20 + 1e-3
    if limit:
        assert loss.item() == pytest.approx(limit, abs=1e-3)


def test_whitened_kmeans_gradient():
    v, y = unit_embeddings(2, 20, 3).requires_grad_(), one_hot(2, 20, 2)
    assert torch.autograd.gradcheck(lambda x: whitened_kmeans(x, y, torch.ones(2, 2, 10, dtype=x.dtype)), v)


def waveforms(batch: int, count: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (2, batch, count, 500)
    noise, reference = torch.randn(shape, generator=generator(), dtype=torch.float64).to(dtype).unbind()
    return reference.flip(1) + 0.3 * noise, reference


def reference_snr(estimate: np.ndarray, reference: np.ndarray, scaled: bool) -> float:
    if scaled:
        reference = reference * (estimate @ reference) / (reference @ reference)
    return float(10 * np.log10((reference**2).sum() / ((reference - estimate) ** 2).sum()))


def test_half_swapped_sources_are_an_error_and_swapped_ones_are_none():
    feats = features(0.05 * torch.randn(1, 2, 3200, generator=generator()), Stft())
    magnitude = feats.mixture_magnitude.unsqueeze(-1)
    mask = feats.phase_sensitive_targets / magnitude
    half = torch.cat([mask[:, :25], mask[:, 25:].flip(-1)], 1)
    directions = torch.eye(20)[:2]
    good, swapped, mixed = (
        {"mask": m, "embedding": y @ directions}
        for m, y in (
            (mask, feats.dominant_source),
            (mask.flip(-1), feats.dominant_source.flip(-1)),
            (half, torch.cat([feats.dominant_source[:, :25], feats.dominant_source[:, 25:].flip(-1)], 1)),
        )
    )
    for loss in (
        MaskInferenceLoss(),
        MaskInferenceLoss("magnitude"),
        WaveformLoss(),
        WaveformLoss("si_sdr"),
        DeepClusteringLoss(60),
        WhitenedKMeansLoss(60, "magnitude_ratio"),
        ChimeraLoss(0.75, 60),
    ):
        best = loss(good, feats).item()
        assert loss(swapped, feats).item() == pytest.approx(best, rel=1e-5, abs=1e-6)
        assert loss(mixed, feats).item() > best + 0.01 * abs(best)


def test_chimera_is_the_weighted_sum():
    feats = features(0.05 * torch.randn(1, 2, 3000, generator=generator()), Stft())
    outputs = {
        "mask": torch.rand(1, 48, 129, 2, generator=generator(3)),
        "embedding": torch.nn.functional.normalize(torch.rand(1, 48, 129, 5, generator=generator(4)), dim=-1),
    }
    masks, embedding = MaskInferenceLoss()(outputs, feats).item(), WhitenedKMeansLoss(40)(outputs, feats).item()
    assert ChimeraLoss(0.75, 40)(outputs, feats).item() == pytest.approx(0.75 * masks + 0.25 * embedding)


def test_magnitude_ratio_weights_have_mean_one_and_leave_out_silence():
    sources = 0.05 * torch.randn(2, 2, 3200, generator=generator())
    sources[1] = 0
    feats = features(torch.nn.functional.pad(sources, (0, 640)), Stft())
    weight = EmbeddingWeights(30, "magnitude_ratio")(feats)
    audible = feats.audible(30).bool()
    assert weight[0][audible[0]].mean().item() == pytest.approx(1, rel=1e-5)
    assert not weight[~audible].any() and not weight[1].any()
    ratio = weight[0] / feats.mixture_magnitude[0]
    torch.testing.assert_close(ratio[audible[0]], ratio[audible[0]][:1].expand(int(audible[0].sum())))


def test_options_are_checked():
    for make, message in (
        (lambda: MaskInferenceLoss("phase"), "model.target=phase: expected one of phase_sensitive, magnitude"),
        (lambda: WaveformLoss("sdr"), "model.metric=sdr: expected one of snr, si_sdr"),
        (lambda: DeepClusteringLoss(25, "ratio"), "model.weights=ratio: expected one of equal, magnitude_ratio"),
        (lambda: ChimeraLoss(1.5, 25), "model.alpha=1.5: expected a number from 0 to 1"),
        (lambda: l1_pit(torch.ones(1, 2, 2, 3), torch.ones(1, 2, 2, 2)), "model.num_sources=3: the mixtures have 2"),
    ):
        with pytest.raises(InputError, match=message):
            make()


def test_where_nussls_losses_are_right_ours_match():
    theirs = nussl().ml.train.loss
    v, y = unit_embeddings(3, 400, 6), one_hot(3, 400, 2)
    w = torch.rand(3, 40, 10, generator=generator(2), dtype=torch.float64)
    # nussl weights V and Y by w, that is, pairs by w^2, where ours (and the paper's W^1/2) weight them by w.
    expected = theirs.DeepClusteringLoss()(v, y, w.sqrt()).item()
    assert deep_clustering(v, y, w).mean().item() == pytest.approx(expected, rel=1e-5)
    estimates, references = waveforms(3, 2)
    for scaled in (False, True):
        loss = theirs.SISDRLoss(scaling=scaled, zero_mean=False, reduction=None)
        direct = loss(estimates.flip(1).transpose(1, 2), references.transpose(1, 2)).mean(-1)
        other = loss(estimates.transpose(1, 2), references.transpose(1, 2)).mean(-1)
        expected = torch.minimum(direct, other)
        torch.testing.assert_close(snr_pit(estimates, references, scaled), expected, rtol=1e-5, atol=1e-6)


def test_where_nussls_losses_are_not_the_papers():
    theirs = nussl().ml.train.loss
    reference = torch.rand(1, 10, 5, 2, generator=generator())
    half_swapped = torch.cat([reference[:, :5], reference[:, 5:].flip(-1)], 1)
    # Since August 2020 it takes the best permutation bin by bin.
    bin_by_bin = theirs.PermutationInvariantLoss(theirs.L1Loss())(half_swapped.unsqueeze(-2), reference.unsqueeze(-2))
    assert bin_by_bin.item() == 0 and l1_pit(half_swapped, reference).item() > 0.1


def test_nussls_whitened_kmeans_is_d_plus_c_minus_twice_the_trace():
    # D - tr(...) is the paper's and ours. nussl's inverses are of (V'V + I) and (Y'Y + I): 1e-4 with so many bins.
    y = one_hot(1, 40_000, 2)
    noise = torch.rand(1, 4000, 10, 6, generator=generator(), dtype=torch.float64)
    raw = (noise + torch.nn.functional.pad(y, (0, 4))).requires_grad_()  # the sources' embeddings form two clusters
    v = torch.nn.functional.normalize(raw, dim=-1)
    ours = whitened_kmeans(v, y, torch.ones(y.shape[:3])).mean()
    theirs = nussl().ml.train.loss.WhitenedKMeansLoss()(v, y, torch.ones(y.shape[:3]).double())
    trace = 6 - reference_whitened_kmeans(v.detach().numpy(), y.numpy())
    assert trace > 1.5 and ours.item() == pytest.approx(6 - trace, rel=1e-5)
    assert theirs.item() == pytest.approx(6 + 2 - 2 * trace, rel=1e-3)
    [own], [other] = torch.autograd.grad(ours, raw, retain_graph=True), torch.autograd.grad(theirs, raw)
    assert (other - 2 * own).norm() < 1e-2 * other.norm()


def test_whitened_kmeans_loss_excludes_silence_and_padding():
    sources = 0.05 * torch.randn(1, 2, 3200, generator=generator())
    feats = features(sources, Stft())
    padded = features(torch.nn.functional.pad(sources, (0, 640)), Stft())
    embedding = torch.nn.functional.normalize(torch.rand(1, 61, 129, 8, generator=generator()), dim=-1)
    loss = WhitenedKMeansLoss(threshold=40.0)
    # The last frames before the padding see a little more of the signal's end.
    plain = loss({"embedding": embedding[:, :51]}, feats).item()
    assert loss({"embedding": embedding}, padded).item() == pytest.approx(plain, abs=2e-3)


def test_scales_change_the_units_alone():
    feats = features(torch.randn(2, 2, 1000, generator=generator()), Stft())
    shape = feats.source_stfts.shape
    mask = torch.rand(shape, generator=generator(1), requires_grad=True)
    raw = torch.randn(*shape[:3], 5, generator=generator(2))
    outputs = {"mask": mask, "embedding": torch.nn.functional.normalize(raw, dim=-1)}
    units = {  # of magnitudes that are 128 times as large
        MaskInferenceLoss(): 128,
        MaskInferenceLoss("magnitude"): 128,
        WaveformLoss(): 1,
        DeepClusteringLoss(40.0): 1,
        WhitenedKMeansLoss(40.0): 1,
    }
    for loss, factor in units.items():
        plain = loss(outputs, feats)
        torch.testing.assert_close(ScaledLoss(loss, 1.0, 128.0)(outputs, feats), factor * plain)
        torch.testing.assert_close(ScaledLoss(loss, 1e-4, 1.0)(outputs, feats), 1e-4 * plain)
    [plain] = torch.autograd.grad(MaskInferenceLoss()(outputs, feats), mask)
    [scaled] = torch.autograd.grad(ScaledLoss(MaskInferenceLoss(), 0.5, 128.0)(outputs, feats), mask)
    assert torch.equal(scaled, 64 * plain)
    with pytest.raises(InputError, match="loss_scale=0"):
        ScaledLoss(MaskInferenceLoss(), 0.0, 1.0)
