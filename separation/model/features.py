"""Waveforms to spectrograms, targets and weights, in torch, batched, on whatever device the waveforms are.

Axes: waveforms (batch, source, time), spectrograms (batch, frame, frequency), with a last axis for sources.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from separation.errors import InputError, check_count
from separation.model.assignment import argmax_of_few


class Stft:
    """Short-time Fourier transform with a square root of the (periodic) Hann window, framed and scaled as nussl's.

    nussl's `AudioSignal.stft` is SciPy's: half a window of zeros on either side, zeros up to a whole hop on the right,
    and spectra divided by the window's sum, so that a sinusoid of amplitude a peaks at a / 2.

    Args:
        window_length: samples (256: 32 ms at 8 kHz).
        hop_length: samples; a divisor of half the window, so that the inverse is exact.

    Raises:
        InputError: the lengths don't fit.
    """

    def __init__(self, window_length: int = 256, hop_length: int = 64) -> None:
        check_count("stft.window_length", window_length, minimum=2, maximum=65_536)
        check_count("stft.hop_length", hop_length)
        if window_length % 2 or window_length // 2 % hop_length:
            raise InputError(
                f"stft.window_length={window_length}, stft.hop_length={hop_length}: expected an even window and a hop"
                " that divides half of it"
            )
        self.window_length = window_length
        self.hop_length = hop_length
        self._windows: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def _window(self, like: Tensor) -> Tensor:
        key = (like.device, like.dtype)
        if key not in self._windows:
            window = torch.hann_window(self.window_length, periodic=True, dtype=torch.float64).sqrt()
            self._windows[key] = window.to(like)
        return self._windows[key]

    def num_frames(self, num_samples: int) -> int:
        """Number of frames of a waveform."""
        return -(-num_samples // self.hop_length) + 1

    def num_samples(self, num_frames: int) -> int:
        """Length of the longest waveform with so many frames, in samples (400 frames: 25,536)."""
        return (num_frames - 1) * self.hop_length

    def __call__(self, waveform: Tensor) -> Tensor:
        """Complex spectrogram, shape (..., time) -> (..., frame, frequency)."""
        half = self.window_length // 2
        padded = torch.nn.functional.pad(waveform, (half, half + -waveform.shape[-1] % self.hop_length))
        window = self._window(waveform)
        return torch.fft.rfft(padded.unfold(-1, self.window_length, self.hop_length) * (window / window.sum()))

    def inverse(self, spectrogram: Tensor, num_samples: int) -> Tensor:
        """Waveform of a complex spectrogram by weighted overlap-add, shape (..., frame, frequency) -> (..., time).

        Args:
            num_samples: at most `num_samples(frames)`.
        """
        window = self._window(spectrogram.real)
        frames = torch.fft.irfft(spectrogram, n=self.window_length) * (window * window.sum())
        summed = self._overlap_add(frames, num_samples)
        return summed / self._envelope(spectrogram.shape[-2], num_samples, like=summed)

    def inverse_each(self, spectrograms: Tensor, num_samples: list[int], total: int) -> Tensor:
        """As `inverse`, each item from its own frames only.

        Args:
            spectrograms: shape (batch, source, frame, frequency).
            num_samples: length of each item.
            total: length of the result.

        Returns:
            Shape (batch, source, time), zeros after each item's end.
        """
        if set(num_samples) == {total}:
            return self.inverse(spectrograms, total)
        waveforms = spectrograms.real.new_zeros(*spectrograms.shape[:2], total)
        for i, (item, length) in enumerate(zip(spectrograms, num_samples, strict=True)):
            waveforms[i, :, :length] = self.inverse(item[:, : self.num_frames(length)], length)
        return waveforms

    def _envelope(self, num_frames: int, num_samples: int, like: Tensor) -> Tensor:
        """What overlap-add of the windows' squares adds up to, shape (time,)."""
        return self._overlap_add(self._window(like).square().expand(num_frames, -1), num_samples)

    def _overlap_add(self, frames: Tensor, num_samples: int) -> Tensor:
        """Shape (..., frame, window) -> (..., time): a hop's samples of all frames at once, several times faster than
        `torch.istft`."""
        count, hops = frames.shape[-2], self.window_length // self.hop_length
        parts = frames.unflatten(-1, (hops, self.hop_length))
        summed = frames.new_zeros(*frames.shape[:-2], count + hops - 1, self.hop_length)
        for hop in range(hops):
            summed[..., hop : hop + count, :] += parts[..., hop, :]
        return summed.flatten(-2).narrow(-1, self.window_length // 2, num_samples)


class Mixture:
    """A batch of mixtures as networks read it: what isn't given is computed when it is first asked for.

    Args:
        waveform: shape (batch, time), zeros after each mixture's end.
        stft: the transform of `spectrum`.
        num_samples: each mixture's length, shape (batch,), where the batch is padded.
        spectrum, magnitude, num_frames: where they are known already.

    Attributes:
        num_samples, num_frames: lengths, shape (batch,), on the CPU; None: nothing is padded.
    """

    def __init__(
        self,
        waveform: Tensor | None = None,
        stft: Stft | None = None,
        num_samples: Tensor | None = None,
        *,
        spectrum: Tensor | None = None,
        magnitude: Tensor | None = None,
        num_frames: Tensor | None = None,
    ) -> None:
        self._waveform, self._stft, self._spectrum, self._magnitude = waveform, stft, spectrum, magnitude
        self.num_samples = num_samples
        if num_frames is None and num_samples is not None and stft is not None:
            num_frames = torch.tensor([stft.num_frames(length) for length in num_samples.tolist()])
        self.num_frames = num_frames

    @property
    def waveform(self) -> Tensor:
        """Shape (batch, time)."""
        if self._waveform is None:
            raise InputError("model.network: it reads waveforms, but this mixture has none")
        return self._waveform

    @property
    def stft(self) -> Stft:
        """The transform of the spectrum."""
        if self._stft is None:
            raise InputError("model.network: it reads the STFT, but this mixture has none")
        return self._stft

    @property
    def spectrum(self) -> Tensor:
        """X, complex, shape (batch, frame, frequency)."""
        if self._spectrum is None:
            with torch.autocast(self.waveform.device.type, enabled=False):
                self._spectrum = self.stft(self.waveform)
        return self._spectrum

    @property
    def magnitude(self) -> Tensor:
        """|X|, shape (batch, frame, frequency)."""
        if self._magnitude is None:
            self._magnitude = self.spectrum.abs()
        return self._magnitude


class _MaskedInverse(torch.autograd.Function):
    """Masks of shape (batch, frame, frequency, source) times a spectrogram, back to (batch, source, time). The
    gradient, for the masks alone, takes one transform: the inverse's adjoint is the transform itself, up to factors."""

    @staticmethod
    def forward(ctx: Any, mask: Tensor, spectrogram: Tensor, stft: Stft, num_samples: int) -> Tensor:
        ctx.save_for_backward(spectrogram)
        ctx.stft = stft
        return stft.inverse((mask * spectrogram.unsqueeze(-1)).permute(0, 3, 1, 2), num_samples)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (spectrogram,) = ctx.saved_tensors
        stft: Stft = ctx.stft
        spectra = stft(gradient / stft._envelope(spectrogram.shape[1], gradient.shape[-1], like=gradient))
        # A real signal's spectrum holds each bin twice, but for the first and the last.
        factor = spectrogram.real.new_full(spectrogram.shape[-1:], 2.0)
        factor[:: len(factor) - 1].fill_(1.0)
        factors = spectrogram * (factor * (stft._window(gradient).sum() ** 2 / stft.window_length))
        return (spectra * factors.conj().unsqueeze(1)).real.permute(0, 2, 3, 1), None, None, None


@dataclass(frozen=True)
class Features:
    """What losses and oracles read of a batch; computed when first asked for."""

    sources: Tensor
    """Shape (batch, source, time)."""
    source_stfts: Tensor
    """Complex, shape (batch, frame, frequency, source)."""
    stft: Stft
    """The transform that they come from."""
    noise: Tensor | None = None
    """What is in the mixture beside the sources, shape (batch, time)."""
    noise_stft: Tensor | None = None
    """Its spectrum: complex, shape (batch, frame, frequency)."""

    @cached_property
    def mixture(self) -> Mixture:
        """What the network reads. Its spectrum is the sum of the parts', since the transform is linear."""
        speech, spectrum = self.sources.sum(1), self.source_stfts.sum(-1)
        if self.noise is None or self.noise_stft is None:
            return Mixture(speech, self.stft, spectrum=spectrum)
        return Mixture(speech + self.noise, self.stft, spectrum=spectrum + self.noise_stft)

    @property
    def mixture_stft(self) -> Tensor:
        """X, complex, shape (batch, frame, frequency)."""
        return self.mixture.spectrum

    @property
    def mixture_magnitude(self) -> Tensor:
        """|X|, shape (batch, frame, frequency)."""
        return self.mixture.magnitude

    @cached_property
    def source_magnitudes(self) -> Tensor:
        """|S|, shape (batch, frame, frequency, source)."""
        return self.source_stfts.abs()

    @cached_property
    def noise_magnitude(self) -> Tensor | None:
        """|N|, shape (batch, frame, frequency, 1); None where there is no noise."""
        return None if self.noise_stft is None else self.noise_stft.abs().unsqueeze(-1)

    @cached_property
    def phase_sensitive_targets(self) -> Tensor:
        """T_0^|X|(|S| cos(theta_S - theta_X)): the truncated phase-sensitive approximation (Erdogan et al., 2015),
        shape (batch, frame, frequency, source)."""
        mixture, magnitude = self.mixture_stft.unsqueeze(-1), self.mixture_magnitude.unsqueeze(-1)
        product = self.source_stfts.real * mixture.real + self.source_stfts.imag * mixture.imag
        in_phase = product / magnitude.clamp(min=torch.finfo(magnitude.dtype).tiny)
        return in_phase.clamp(min=0).minimum(magnitude)

    @cached_property
    def dominant_source(self) -> Tensor:
        """Y: one-hot loudest source of each bin, shape (batch, frame, frequency, source)."""
        loudest = argmax_of_few(self.source_magnitudes, -1)
        return (loudest.unsqueeze(-1) == torch.arange(self.sources.shape[1], device=loudest.device)).to(self.sources)

    def scaled(self, factor: float) -> "Features":
        """The features of signals that are `factor` times as large."""
        noise, noise_stft = (None if part is None else factor * part for part in (self.noise, self.noise_stft))
        return Features(factor * self.sources, factor * self.source_stfts, self.stft, noise, noise_stft)

    def masked(self, mask: Tensor) -> Tensor:
        """The mixture through masks, in the time domain: (batch, frame, frequency, source) -> (batch, source, time)."""
        return _MaskedInverse.apply(mask, self.mixture_stft, self.stft, self.sources.shape[-1])  # type: ignore[no-untyped-call]

    def audible(self, threshold: float) -> Tensor:
        """As `audible`, of the mixture."""
        return audible(self.mixture_magnitude, threshold)


def audible(magnitude: Tensor, threshold: float) -> Tensor:
    """The bins that are neither silent nor padding: within `threshold` dB of their utterance's peak.

    Args:
        magnitude: shape (batch, frame, frequency).

    Returns:
        1 or 0 in the magnitude's dtype, same shape; all 0 for a silent utterance.
    """
    peak = magnitude.amax((1, 2), keepdim=True)
    return ((magnitude >= peak * 10 ** (-threshold / 20)) & (magnitude > 0)).to(magnitude)


def features(sources: Tensor, stft: Stft, noise: Tensor | None = None) -> Features:
    """Features of a batch of sources, shape (batch, source, time), and of noise, shape (batch, time)."""
    return Features(sources, stft(sources).permute(0, 2, 3, 1), stft, noise, None if noise is None else stft(noise))
