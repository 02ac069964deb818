"""The losses on spectra and waveforms."""

import itertools

import numpy as np
import pytest
import torch
from test_losses import generator, reference_snr, waveforms

from separation.model.features import Stft, features
from separation.model.losses import (
    MaskInferenceLoss,
    WaveformLoss,
    l1_pit,
    snr_pit,
)


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


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("scaled", [False, True])
def test_snr_equals_brute_force(count, scaled):
    estimates, references = waveforms(3, count)
    for dtype in (torch.float64, torch.float32):
        losses = snr_pit(estimates.to(dtype), references.to(dtype), scaled)
        for e, r, loss in zip(estimates.numpy(), references.numpy(), losses, strict=True):
            table = [[reference_snr(a, b, scaled) for b in r] for a in e]
            orders = itertools.permutations(range(count))
            best = max(np.mean([table[o][i] for i, o in enumerate(order)]) for order in orders)
            assert loss.item() == pytest.approx(-best, rel=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_snr_gradient(scaled):
    estimates, references = waveforms(2, 2)
    short = estimates[..., :20].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: snr_pit(x, references[..., :20], scaled), short)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("case", ["silent_source", "silent_estimate", "perfect", "all_silent"])
def test_snr_of_degenerate_inputs_is_finite(case, scaled):
    estimates, references = waveforms(1, 2, torch.float32)
    estimates, references = 0.05 * estimates, 0.05 * references
    if case == "silent_source":
        references[:, 1] = 0
    elif case == "silent_estimate":
        estimates[:] = 0
    elif case == "perfect":
        estimates = references.clone()
    else:
        estimates, references = 0 * estimates, 0 * references
    estimates.requires_grad_()
    loss = snr_pit(estimates, references, scaled)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(estimates.grad).all()
    limit = {"perfect": -97.0, "silent_estimate": 0.0, "all_silent": 0.0}.get(case)
    if limit is not None and not (scaled and case == "silent_estimate"):
        assert loss.item() == pytest.approx(limit, abs=4)


def test_waveform_loss_is_the_snr_of_the_inverse_transform():
    feats = features(0.05 * torch.randn(2, 2, 3000, generator=generator()), Stft())
    mask = torch.rand(2, 48, 129, 2, generator=generator(3))
    estimate = torch.stack([Stft().inverse(feats.mixture_stft * mask[..., i], 3000) for i in range(2)], 1)
    assert WaveformLoss()({"mask": mask}, feats).item() == pytest.approx(snr_pit(estimate, feats.sources).mean().item())
    halves = {"mask": torch.full_like(mask, 0.5)}  # the mixture's half each: its SNR follows from the sources
    expected = [
        reference_snr(0.5 * sources.sum(0).numpy(), source.numpy(), False)
        for sources in feats.sources
        for source in sources
    ]
    assert WaveformLoss()(halves, feats).item() == pytest.approx(-np.mean(expected), rel=1e-4)


def test_mask_inference_loss_is_zero_at_the_target_and_follows_its_formula():
    feats = features(0.05 * torch.randn(2, 2, 3000, generator=generator()), Stft())
    magnitude = feats.mixture_magnitude.unsqueeze(-1)
    target = feats.phase_sensitive_targets
    loss = MaskInferenceLoss()
    assert loss({"mask": (target / magnitude).flip(-1)}, feats).item() == pytest.approx(0, abs=1e-9)
    expected = (0.5 * magnitude - target).abs().mean()
    assert loss({"mask": torch.full_like(target, 0.5)}, feats).item() == pytest.approx(expected.item(), rel=1e-5)
