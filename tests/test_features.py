import numpy as np
import pytest
import scipy.signal
import torch

from separation.compat import nussl
from separation.errors import InputError
from separation.model.features import Stft, features


def random_sources(*shape: int) -> torch.Tensor:
    return 0.05 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [256, 257, 320, 4000, 6336, 25536])
def test_spectrogram_equals_nussls(length):
    package = nussl()
    waveform = random_sources(length)
    signal = package.AudioSignal(
        audio_data_array=waveform.double().numpy(),
        sample_rate=8000,
        stft_params=package.STFTParams(256, 64, "sqrt_hann"),
    )
    expected = signal.stft()[:, :, 0].T
    stft = Stft(256, 64)
    actual = stft(waveform).numpy()
    assert actual.shape == expected.shape == (stft.num_frames(length), 129)
    assert np.linalg.norm(actual - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("length", [1, 100, 255, 4001])
def test_inverse_restores_waveforms_of_any_length(length):
    waveform = random_sources(2, 3, length)
    restored = Stft()(waveform)
    assert restored.shape == (2, 3, Stft().num_frames(length), 129)
    torch.testing.assert_close(Stft().inverse(restored, length), waveform, atol=1e-6, rtol=0)


def test_a_sinusoid_peaks_at_half_its_amplitude():
    waveform = 0.3 * torch.cos(2 * torch.pi * 1000 / 8000 * torch.arange(8000))
    assert Stft()(waveform)[60, 32].abs().item() == pytest.approx(0.15, rel=1e-3)


def test_the_papers_excerpt_of_400_frames_has_25536_samples():
    assert Stft(256, 64).num_samples(400) == 25536
    assert Stft(256, 64).num_frames(25536) == 400


@pytest.mark.parametrize(("window", "hop"), [(255, 64), (256, 0), (256, 100)])
def test_lengths_that_do_not_fit_are_named(window, hop):
    with pytest.raises(InputError, match=f"stft.*=({window}|{hop}).*: expected"):
        Stft(window, hop)


def test_targets_follow_their_formulas():
    sources = random_sources(1, 2, 2000)
    feats = features(sources, Stft())
    spectra = [
        scipy.signal.stft(s, nperseg=256, noverlap=192, window=window())[2].T for s in sources[0].double().numpy()
    ]
    mixture = sum(spectra)
    for i, spectrum in enumerate(spectra):
        in_phase = np.abs(spectrum) * np.cos(np.angle(spectrum) - np.angle(mixture))
        expected = np.minimum(np.maximum(in_phase, 0), np.abs(mixture))
        np.testing.assert_allclose(feats.phase_sensitive_targets[0, ..., i].numpy(), expected, atol=1e-7)
    louder = np.argmax(np.abs(np.stack(spectra)), 0)
    assert (feats.dominant_source[0].argmax(-1).numpy() == louder).mean() > 0.9999
    assert feats.dominant_source.sum(-1).eq(1).all()


def window() -> np.ndarray:
    return np.sqrt(scipy.signal.get_window("hann", 256))


def test_silent_and_padded_bins_are_not_audible():
    sources = random_sources(2, 2, 6400)
    sources[0, :, 3200:] = 0
    sources[1] = 0
    audible = features(sources, Stft()).audible(40.0)
    assert audible[0, :49].mean() > 0.9
    assert audible[0, 53:].sum() == 0
    assert audible[1].sum() == 0


def test_audible_bins_lie_within_the_threshold_of_the_peak():
    feats = features(random_sources(1, 2, 6400), Stft())
    magnitude = feats.mixture_magnitude
    decibels = 20 * torch.log10(magnitude / magnitude.max())
    assert torch.equal(feats.audible(20.0) > 0, decibels >= -20)


def test_the_gradient_of_the_inverse_of_masked_spectrograms():
    stft = Stft(16, 4)
    feats = features(random_sources(2, 2, 57).double(), stft)
    mask = torch.rand(2, stft.num_frames(57), 9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(feats.masked, mask.requires_grad_())
    masked = (mask * feats.mixture_stft.unsqueeze(-1)).permute(0, 3, 1, 2)
    window = torch.hann_window(16, dtype=torch.float64).sqrt()
    for own, spectrogram in zip(feats.masked(mask).flatten(0, 1), masked.flatten(0, 1), strict=True):
        theirs = torch.istft(spectrogram.T * window.sum(), 16, 4, window=window, length=57)
        torch.testing.assert_close(own, theirs)
