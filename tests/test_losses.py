import itertools

import numpy as np
import pytest
import torch

from separation.features import Stft, features
from separation.losses import MaskInferenceLoss, WhitenedKMeansLoss, l1_pit, whitened_kmeans


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


def test_l1_pit_equals_brute_force():
    estimate, reference = torch.rand(2, 4, 5, 7, 3, generator=generator()).unbind()
    for e, r, loss in zip(estimate, reference, l1_pit(estimate, reference), strict=True):
        orders = itertools.permutations(range(3))
        assert loss.item() == pytest.approx(min((e[..., list(o)] - r).abs().mean().item() for o in orders), rel=1e-5)


def test_permutation_is_by_utterance():
    reference = torch.rand(1, 10, 5, 2, generator=generator())
    assert l1_pit(reference.flip(-1), reference).item() == 0
    half_swapped = torch.cat([reference[:, :5], reference[:, 5:].flip(-1)], 1)
    wrong = (reference - reference.flip(-1)).abs()
    expected = min(wrong[:, :5].sum().item(), wrong[:, 5:].sum().item()) / reference.numel()
    assert l1_pit(half_swapped, reference).item() == pytest.approx(expected, rel=1e-5)


def test_l1_pit_gradient():
    estimate, reference = torch.rand(2, 1, 3, 4, 2, generator=generator(), dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(lambda x: l1_pit(x, reference), estimate.requires_grad_())


def test_mask_inference_loss_is_zero_at_the_target_and_follows_its_formula():
    feats = features(0.05 * torch.randn(2, 2, 3000, generator=generator()), Stft())
    magnitude = feats.mixture_magnitude.unsqueeze(-1)
    target = feats.phase_sensitive_targets
    loss = MaskInferenceLoss()
    assert loss({"mask": (target / magnitude).flip(-1)}, feats).item() == pytest.approx(0, abs=1e-9)
    expected = (0.5 * magnitude - target).abs().mean()
    assert loss({"mask": torch.full_like(target, 0.5)}, feats).item() == pytest.approx(expected.item(), rel=1e-5)


def test_whitened_kmeans_loss_excludes_silence_and_padding():
    sources = 0.05 * torch.randn(1, 2, 3200, generator=generator())
    feats = features(sources, Stft())
    padded = features(torch.nn.functional.pad(sources, (0, 640)), Stft())
    embedding = torch.nn.functional.normalize(torch.rand(1, 61, 129, 8, generator=generator()), dim=-1)
    loss = WhitenedKMeansLoss(threshold=40.0)
    # The last frames before the padding see a little more of the signal's end.
    plain = loss({"embedding": embedding[:, :51]}, feats).item()
    assert loss({"embedding": embedding}, padded).item() == pytest.approx(plain, abs=2e-3)
