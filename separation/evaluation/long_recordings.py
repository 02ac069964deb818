"""Separates a recording of any length, rate and channel count, at its own rate and level."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from separation.data import audio
from separation.model.assignment import best_assignment, reorder
from separation.model.separators import TrainedModel, apply_masks


class RecordingSeparator:
    """Separates long recordings piece by piece, and lets each voice go on where the pieces overlap.

    Args:
        model: a trained model.
        sample_rate: the rate it was trained at, in Hz.
        mixture_rms: the level it was trained at; None: it was trained at whatever levels its corpus has.
        segment: length of a piece in samples at the model's rate.
        overlap: by which neighbouring pieces overlap, in samples.
    """

    def __init__(
        self, model: TrainedModel, sample_rate: int, mixture_rms: float | None, segment: int, overlap: int
    ) -> None:
        self.model = model
        self.sample_rate = sample_rate
        self.mixture_rms = mixture_rms
        self.segment = segment
        self.overlap = overlap

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Separates one recording.

        The masks come from the mean of the channels, brought to the model's rate and level; they are applied to every
        channel. Frequencies above half the model's rate are lost.

        Args:
            samples: shape (time, channel).
            rate: in Hz.

        Returns:
            Shape (source, time, channel), at the recording's rate and level.
        """
        resampled = audio.resample(samples, rate, self.sample_rate)
        if not len(resampled):  # less than a sample at the model's rate
            resampled = np.zeros((1, samples.shape[1]), dtype=np.float32)
        level = float(np.sqrt(np.square(resampled.mean(axis=1), dtype=np.float64).mean()))
        gain = self.mixture_rms / level if level > 0 and self.mixture_rms is not None else 1.0
        channels = torch.from_numpy(np.ascontiguousarray(resampled.T)) * gain
        sources = self._stitch(channels) / gain
        restored = audio.resample(sources.permute(2, 0, 1).flatten(1).numpy(), self.sample_rate, rate)
        restored = restored.reshape(len(restored), len(sources), -1).transpose(1, 0, 2)
        length = min(restored.shape[1], len(samples))
        output = np.zeros((len(sources), *samples.shape), dtype=np.float32)
        output[:, :length] = restored[:, :length]
        return output

    def _stitch(self, channels: Tensor) -> Tensor:
        """Separates overlapping pieces and cross-fades them: (channel, time) -> (source, channel, time)."""
        output: Tensor | None = None
        for start, piece in self._pieces(channels):
            estimates = self._separate(piece)
            if output is None:
                output = estimates.new_zeros(*estimates.shape[:2], channels.shape[1])
                output[..., : piece.shape[1]] = estimates
                continue
            # What the piece before this one said of their common part.
            before = output[..., start : start + self.overlap]
            similarity = torch.einsum("ect,rct->er", estimates[..., : self.overlap], before)
            estimates = reorder(estimates.unsqueeze(0), best_assignment(-similarity.unsqueeze(0))[1])[0]
            fade = torch.linspace(0, 1, before.shape[-1])
            output[..., start : start + piece.shape[1]] = torch.cat(
                [before * (1 - fade) + estimates[..., : self.overlap] * fade, estimates[..., self.overlap :]], -1
            )
        assert output is not None  # a recording has at least one sample, so at least one piece
        return output

    def _pieces(self, channels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """First sample and samples of each piece."""
        step = self.segment - self.overlap
        for start in range(0, max(1, channels.shape[1] - self.overlap), step):
            yield start, channels[:, start : start + self.segment]

    @torch.inference_mode()
    def _separate(self, piece: Tensor) -> Tensor:
        """One piece: (channel, time) -> (source, channel, time)."""
        model = self.model
        piece = piece.to(model.device)
        magnitude = model.stft(piece.mean(0, keepdim=True)).abs()
        masks = model.separator(model.network(magnitude), magnitude)
        lengths = torch.full((len(piece),), piece.shape[1])
        masks = masks.expand(len(piece), -1, -1, -1)
        return apply_masks(masks, model.stft(piece), model.stft, lengths).transpose(0, 1).cpu()
