"""SpectralClip beside its equation (which test_rivals.py has)."""

import math

import numpy as np
import pytest
import torch

from gradclip import SpectralClip


def clipped(gradient: torch.Tensor, clipper: SpectralClip) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.zeros_like(gradient))
    parameter.grad = gradient.clone()
    clipper.clip_([("weight", parameter)])
    return parameter.grad


def by_svd(gradient: torch.Tensor, tau: float) -> np.ndarray:
    matrix = gradient.double().numpy().reshape(gradient.shape[0], -1)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return ((left * np.minimum(values, tau)) @ right).reshape(gradient.shape)


SHAPES = [(60, 30), (30, 60), (8, 6, 3, 3), (16, 2, 3, 3), (1, 20), (20, 1), (7,)]


@pytest.mark.parametrize("spectrum", ["flat", "decaying", "spiked"])
@pytest.mark.parametrize("shape", SHAPES)
def test_float32_gradients_come_out_to_the_last_bits(shape, spectrum):
    """With the largest singular value down to a ten-thousandth, where float32's squares would be lost."""
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    matrix = gradient.view(shape[0], -1)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    if spectrum == "decaying":
        gradient = ((left * torch.logspace(0, -6, len(values), dtype=torch.float64)) @ right).float().view(shape)
    if spectrum == "spiked":
        gradient = gradient + 1000 * torch.outer(left[:, 0], right[0]).float().view(shape)
    largest = float(np.linalg.norm(gradient.numpy().reshape(shape[0], -1), 2))
    for fraction in (0.9, 0.3, 1e-4):
        want = by_svd(gradient, fraction * largest)
        got = clipped(gradient, SpectralClip(threshold=fraction * largest)).double().numpy()
        assert np.linalg.norm(got - want) <= 3e-7 * max(np.linalg.norm(want), fraction * np.linalg.norm(gradient))


def test_a_gradient_below_the_bound_stays_bit_identical():
    torch.manual_seed(0)
    gradient = torch.randn(20, 10)
    norm, largest = float(gradient.norm()), float(np.linalg.norm(gradient.numpy(), 2))
    assert largest < 0.8 * norm
    for threshold in (norm * 1.01, largest * 1.001):
        assert torch.equal(clipped(gradient, SpectralClip(threshold=threshold)), gradient)
    assert torch.equal(clipped(gradient, SpectralClip(p=100)), gradient)


def test_a_spike_is_lowered_and_the_rest_left():
    """A rank-1 spike on orthogonal matrices: only its singular value changes."""
    orthogonal = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[
        0
    ]
    values = torch.linspace(0.1, 1, 12, dtype=torch.float64)
    spiked = values.clone()
    spiked[3] = 50.0
    clipper, parameter = SpectralClip(p=50), torch.nn.Parameter(torch.zeros(12, 12, dtype=torch.float64))
    for diagonal in (values, values, spiked):
        parameter.grad = orthogonal * diagonal
        result = clipper.clip_([("weight", parameter)])
    values[3] = 1.0  # the median of 1, 1, 50
    torch.testing.assert_close(parameter.grad, orthogonal * values, rtol=1e-12, atol=1e-12)
    assert list(clipper.history["weight"]) == pytest.approx([1.0, 1.0, 50.0], rel=1e-12)
    assert result.coefficient == pytest.approx(float(values.norm() / spiked.norm()), rel=1e-12)
    assert math.isinf(result.threshold)


@pytest.mark.parametrize("scale", [1e-36, 1e30])
def test_scales_whose_squares_float32_does_not_hold(scale):
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    want = by_svd(gradient, 1.0)
    got = clipped(gradient * scale, SpectralClip(threshold=scale)).double().numpy()
    np.testing.assert_allclose(got / scale, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    got = clipped(gradient, SpectralClip(threshold=1.0))
    assert got.dtype == dtype
    assert torch.equal(got, torch.from_numpy(by_svd(gradient, 1.0)).to(dtype))


def test_gradients_of_another_memory_format():
    gradient = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    other = gradient.to(memory_format=torch.channels_last)
    got = clipped(other, SpectralClip(threshold=1.0))
    torch.testing.assert_close(got, clipped(gradient, SpectralClip(threshold=1.0)))


def test_the_arguments():
    with pytest.raises(ValueError, match=r"p: expected a percentile in \[0, 100\], got 101"):
        SpectralClip(p=101)
    with pytest.raises(ValueError, match="threshold: expected a number > 0, got 0"):
        SpectralClip(threshold=0)
    with pytest.raises(ValueError, match="window: expected a whole number >= 1, got 0"):
        SpectralClip(window=0)
