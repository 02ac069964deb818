import numpy as np
import pytest
import scipy.signal
import torch

from separation.evaluation.bss_eval import bss_eval
from separation.evaluation.bss_eval_by_museval import bss_eval_by_museval
from separation.model.si_sdr import best_permutation, si_sdr


def signals(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_si_sdr_of_orthogonal_noise_in_closed_form():
    time = torch.arange(8000) / 8000
    reference, noise = torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 200 * time)
    for ratio in (0.01, 1.0, 30.0):
        # ||s||^2 / ||ratio n||^2 with equal energies; the estimate's scale does not matter.
        assert si_sdr(7 * (reference + ratio * noise), reference).item() == pytest.approx(
            -20 * np.log10(ratio), abs=1e-4
        )


def test_si_sdr_equals_musevals_one_tap_bss_eval():
    reference = signals(4, 2, 3000)
    estimate = reference + 0.5 * reference.flip(1) + signals(4, 2, 3000).flip(-1)
    for e, r in zip(estimate, reference, strict=True):
        np.testing.assert_allclose(si_sdr(e, r).numpy(), bss_eval_by_museval(e.numpy(), r.numpy(), 1).sdr, atol=1e-8)


@pytest.mark.parametrize("num_taps", [1, 16])
def test_a_silent_signal_takes_no_other_sources_scores(num_taps):
    reference = signals(3, 3000).numpy()
    estimate = reference + 0.3 * np.roll(reference, 1, 0)
    for score in (bss_eval, bss_eval_by_museval):
        whole = np.array(score(estimate, reference, num_taps))
        # A silent estimate has no part in what the others' are made of.
        scores = np.array(score(estimate * [[1], [0], [1]], reference, num_taps))
        np.testing.assert_allclose(scores[:, [0, 2]], whole[:, [0, 2]], atol=1e-6)
        assert np.isnan(scores[:, 1]).all()
        # A silent reference is no interference: what remains is scored as the mixture of two that it is.
        scores = np.array(score(estimate, reference * [[1], [0], [1]], num_taps))
        alone = np.array(score(estimate[[0, 2]], reference[[0, 2]], num_taps))
        np.testing.assert_allclose(scores[:, [0, 2]], alone, atol=1e-6)
        assert np.isnan(scores[:, 1]).all()
    ours, theirs = (score(0 * estimate, reference, num_taps) for score in (bss_eval, bss_eval_by_museval))
    np.testing.assert_array_equal(ours, theirs)


def test_silence_and_perfection_score_the_documented_limits():
    reference = signals(2, 500)
    assert si_sdr(torch.zeros(2, 500), reference).isnan().all()
    assert si_sdr(reference, torch.zeros(2, 500)).isnan().all()
    assert si_sdr(3 * reference, reference).tolist() == [100, 100]
    for score in (bss_eval, bss_eval_by_museval):
        assert np.isnan(score(np.zeros((2, 500)), reference.numpy(), 1)).all()
        assert np.isfinite(score(reference.numpy(), reference.numpy(), 1)).all()


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("taps", [1, 7, 512])
def test_bss_eval_equals_musevals(count, taps):
    """On coloured noise, as speech is, whose filters are far from orthogonal."""
    shape = scipy.signal.butter(4, 0.3)
    references = scipy.signal.lfilter(*shape, signals(count, 4001).numpy())
    mixed = references + 0.3 * references[::-1] + 0.01 * signals(2 * count, 4001).numpy()[count:]
    estimates = scipy.signal.lfilter([0.2, 1.0, -0.5], 1, mixed)
    for own, theirs in zip(
        bss_eval(estimates, references, taps), bss_eval_by_museval(estimates, references, taps), strict=True
    ):
        np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-6)


def test_bss_eval_of_sinusoids_is_musevals():
    """Their delays depend on one another: no Cholesky decomposition."""
    time = np.arange(2000) / 8000
    references = np.stack([np.sin(2 * np.pi * frequency * time) for frequency in (440, 1000)])
    estimates = references + 0.1 * references[::-1]
    own, theirs = bss_eval(estimates, references, 512), bss_eval_by_museval(estimates, references, 512)
    assert np.isfinite(own).all() and own.sdr.min() > 10
    np.testing.assert_allclose(own.sdr, theirs.sdr, atol=1.0)


def test_full_bss_eval_forgives_a_filter():
    references = signals(2, 4000).numpy()
    filtered = np.stack([np.convolve(r, [0.2, 1.0, -0.5])[:4000] for r in references])
    assert bss_eval(filtered, references, 1).sdr.max() < 10
    assert bss_eval(filtered, references, 512).sdr.min() > 30


def test_best_permutation_orders_estimates_by_reference():
    references = signals(3, 3, 1000)
    order = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 2, 0]])
    estimates = torch.stack([references[i][order[i]] for i in range(3)]) + 0.1 * signals(3, 3, 1000)
    found = best_permutation(estimates, references)
    assert torch.equal(found, order.argsort(1))
