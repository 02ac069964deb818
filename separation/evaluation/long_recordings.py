"""Separates a recording of any length, rate and channel count, at its own rate and level, in bounded memory.

It is read three times: to find where it is active and how loud it is there; for the network, which hears the active
frames only, so that speech on both sides of a pause meets in one piece and voices keep their places; and to be masked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from separation.data.audio import OFFSET
from separation.data.audio_stream import Recording, Rows, equal_blocks, resample_blocks, subtract_offsets
from separation.evaluation.activity import active_frames, level_gains
from separation.model.assignment import best_assignment
from separation.model.features import Mixture
from separation.model.separators import TrainedModel

CANCELLED = 0.1
"""Share of the power that cancels in the channels' mean which the network hears."""
SURE = 0.5
"""Correlation of what two pieces say of their common part, above which they tell the voices apart alike."""


@dataclass(frozen=True)
class Survey:
    """What is known of a recording before it is separated."""

    num_samples: int
    """At its own rate."""
    offsets: Tensor
    """How far each channel is off zero in each block at the model's rate, 0 where that is too little to matter, shape
    (block, channel)."""
    power: np.ndarray
    """Mean square of each frame at the model's rate, without offsets, see `joint_power`, shape (frame,)."""
    active: np.ndarray
    """The frames that the network hears, shape (frame,)."""
    doubts: list[tuple[float, float]] = field(default_factory=list)
    """From and to in seconds, where the voices may have changed places; known once it is separated."""


class RecordingSeparator:
    """Separates long recordings piece by piece, and lets each voice go on where the pieces overlap.

    Args:
        model: a trained model.
        num_sources: that it separates.
        sample_rate: the rate it was trained at, in Hz.
        mixture_rms: the level it was trained at; None: it was trained at whatever levels its corpus has.
        segment_seconds: length of a piece; what is cut of pauses doesn't count.
        overlap_seconds: by which neighbouring pieces overlap, counted likewise.
        pause_seconds: longer pauses are cut to this length. All sources get the same share of what is cut.
        pause_level: a recording pauses where it is so many dB below the speech around, see `active_frames`.
    """

    def __init__(
        self,
        model: TrainedModel,
        num_sources: int,
        sample_rate: int,
        mixture_rms: float | None,
        segment_seconds: float,
        overlap_seconds: float,
        pause_seconds: float,
        pause_level: float,
    ) -> None:
        self.model = model
        self.num_sources = num_sources
        self.sample_rate = sample_rate
        self.mixture_rms = mixture_rms
        self.hop = model.stft.hop_length
        self.frame_rate = sample_rate / self.hop
        self.segment = round(segment_seconds * self.frame_rate)
        self.overlap = round(overlap_seconds * self.frame_rate)
        self.pause_seconds = pause_seconds
        self.pause_level = pause_level
        self.block = max(-(-sample_rate // self.hop), model.stft.window_length // self.hop)  # frames; about a second

    def survey(self, recording: Recording) -> Survey:
        """Reads a recording to its end.

        Raises:
            InputError: the blocks' own.
        """
        num_samples = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal num_samples
            for block in recording.blocks():
                num_samples += len(block)
                yield block

        offsets: list[Tensor] = []
        variances, powers = [], []
        for block in self._blocks(counted(), recording.rate):
            if not offsets or len(block) == self.block * self.hop:  # the few samples left at the end tell no offset
                offset = off_zero(block)
            offsets.append(offset)
            variances.append((block - offset).square().mean(0))
            powers.append(torch.stack([self._power(block), self._power(block - offset)]))
        if not offsets:  # less than a sample at the model's rate
            return Survey(num_samples, torch.zeros(0, recording.channels), np.zeros(0), np.zeros(0, dtype=bool))
        matter = (torch.stack(offsets).square().mean(0) > OFFSET**2 * torch.stack(variances).mean(0)).any()
        power = torch.cat(powers, 1)[int(matter)].numpy()
        power = np.append(power, power[-1:])  # a frame lies at either end of each hop
        active = active_frames(power, self.frame_rate, self.pause_level, self.pause_seconds)
        return Survey(num_samples, torch.stack(offsets) * matter, power, active)

    def _power(self, samples: Tensor) -> Tensor:
        """Of samples of shape (time, channel) in each hop, shape (hop,)."""
        power = joint_power(samples.T)
        return torch.nn.functional.pad(power, (0, -len(power) % self.hop)).view(-1, self.hop).mean(1)

    def separate(self, recording: Recording, survey: Survey) -> Iterator[np.ndarray]:
        """Separates one recording.

        The masks come from the power of all channels, brought to the model's rate and level; they are applied to every
        channel. Frequencies above half the model's rate are lost, and so is an offset.

        Yields:
            Blocks of shape (source, time, channel), at the recording's rate and level, together as long as it is.
        """
        left = survey.num_samples
        for block in resample_blocks(self._masked(recording, survey), self.sample_rate, recording.rate):
            block = block[:left].reshape(-1, self.num_sources, recording.channels)
            left -= len(block)
            yield block.swapaxes(0, 1)
        if left:  # resampled twice, it may be shorter
            yield np.zeros((self.num_sources, left, recording.channels), dtype=np.float32)

    def _blocks(self, blocks: Iterator[np.ndarray], rate: int) -> Iterator[Tensor]:
        """A recording at the model's rate, in blocks of shape (time, channel) and `self.block` frames."""
        resampled = map(torch.from_numpy, resample_blocks(blocks, rate, self.sample_rate))
        return equal_blocks(resampled, self.block * self.hop)

    def _spectrograms(self, recording: Recording, survey: Survey, reach: int) -> Iterator[tuple[range, Tensor]]:
        """Numbers of some frames, and their spectrogram of shape (channel, frame, frequency): each `self.block` frames
        with `reach` more on both sides."""
        margin, count = self.model.stft.window_length // self.hop, len(survey.power)
        blocks = self._blocks(recording.blocks(), recording.rate)
        samples = Rows(subtract_offsets(blocks, survey.offsets, self.block * self.hop))
        for start in range(0, count, self.block):
            frames = range(max(0, start - reach), min(count, start + self.block + reach))
            # The transform pads with zeros: what reaches into them is cut off again.
            first = max(0, frames.start - margin)
            piece = samples.take(first * self.hop, (frames.stop + margin) * self.hop)
            spectrogram = self.model.stft(piece.T.contiguous())
            yield frames, spectrogram[:, frames.start - first : frames.stop - first]

    def _masked(self, recording: Recording, survey: Survey) -> Iterator[np.ndarray]:
        """The sources at the model's rate, in blocks of shape (time, source x channel)."""
        reach = self.model.stft.window_length // 2 // self.hop
        masks = Rows(self._masks(recording, survey))
        for frames, spectrogram in self._spectrograms(recording, survey, reach):
            masked = masks.take(frames.start, frames.stop).permute(2, 0, 1).unsqueeze(1) * spectrogram
            samples = self.model.stft.inverse(masked, self.model.stft.num_samples(len(frames)))
            skipped = 0 if frames.start == 0 else reach * self.hop
            yield samples[..., skipped : skipped + self.block * self.hop].flatten(0, 1).T.contiguous().numpy()

    def _masks(self, recording: Recording, survey: Survey) -> Iterator[Tensor]:
        """Masks of all frames, shape (frame, frequency, source)."""
        heard, done = Rows(self._heard_masks(recording, survey)), 0
        for start in range(0, len(survey.active), self.block):
            active = torch.from_numpy(survey.active[start : start + self.block])
            some = heard.take(done, done + int(active.sum()))
            done += len(some)
            masks = some.new_full((len(active), *some.shape[1:]), 1 / self.num_sources)
            masks[active] = some
            yield masks

    def _heard_masks(self, recording: Recording, survey: Survey) -> Iterator[Tensor]:
        """Masks of the active frames, piece by piece cross-faded, shape (frame, frequency, source)."""
        spectra = Rows(self._heard(recording, survey))
        places = np.flatnonzero(survey.active)
        before: Tensor | None = None
        for start in range(0, max(1, len(places) - self.overlap), self.segment - self.overlap):
            heard = spectra.take(start, start + self.segment)
            if self.mixture_rms is not None:
                power = survey.power[places[start : start + self.segment]]
                heard = heard * torch.from_numpy(level_gains(power, self.frame_rate, self.mixture_rms)).unsqueeze(1)
            masks = self._estimate(heard)
            if before is not None:
                masks, is_sure = join(before, masks, heard[: self.overlap].abs().square())
                if not is_sure:
                    span = places[[start, start + self.overlap]] / self.frame_rate
                    survey.doubts.append((float(span[0]), float(span[1])))
            if start + self.segment >= len(places):
                yield masks
                return
            before = masks[-self.overlap :]
            yield masks[: -self.overlap]

    def _heard(self, recording: Recording, survey: Survey) -> Iterator[Tensor]:
        """Spectra of the active frames, of all channels together, shape (frame, frequency): their joint power, with the
        phase of their mean."""
        for frames, spectrogram in self._spectrograms(recording, survey, reach=0):
            active = torch.from_numpy(survey.active[frames.start : frames.stop])
            channels = spectrogram[:, active]
            yield torch.polar(joint_power(channels).sqrt(), channels.mean(0).angle())

    @torch.inference_mode()
    def _estimate(self, spectrum: Tensor) -> Tensor:
        """Masks of one piece: (frame, frequency) -> (frame, frequency, source)."""
        stft, spectrum = self.model.stft, spectrum.unsqueeze(0).to(self.model.device)
        waveform = stft.inverse(spectrum, stft.num_samples(spectrum.shape[1]))
        mixture = Mixture(waveform, stft, spectrum=spectrum)
        return self.model.separator.masks(self.model.network(mixture), mixture)[0].cpu()


def off_zero(block: Tensor) -> Tensor:
    """Each channel's offset, shape (time, channel) -> (channel,): the median of 20 parts' means, as a click has a mean
    too."""
    parts = block.split(max(1, len(block) // 20))
    return torch.stack([part.mean(0) for part in parts]).median(0).values


def joint_power(channels: Tensor) -> Tensor:
    """Power of channels together, samples or spectra, shape (channel, ...) -> (...): that of their mean, in which noise
    of each channel's own averages out, and some of what cancels in it, so that nothing is lost."""
    of_mean = channels.mean(0).abs().square()
    return of_mean + CANCELLED * (channels.abs().square().mean(0) - of_mean).clamp(min=0)


def join(before: Tensor, masks: Tensor, power: Tensor) -> tuple[Tensor, bool]:
    """Brings a piece's sources into the order of those before it, and fades from these to them.

    Args:
        before: masks of the common part by the piece before, shape (frame, frequency, source).
        masks: of the whole piece, whose beginning is the common part.
        power: of the common part, shape (frame, frequency).

    Returns:
        The piece's masks, and whether there is no doubt about the order.
    """
    overlap = len(before)
    similarity = torch.einsum("fk,fke,fkr->er", power.to(masks.dtype), masks[:overlap].conj(), before).real
    masks = masks[..., best_assignment(-similarity.unsqueeze(0))[1][0]]
    fade = torch.linspace(0, 1, overlap)[:, None, None]
    common = before * (1 - fade) + masks[:overlap] * fade
    is_sure = True
    for one, other in combinations(range(masks.shape[-1]), 2):
        old = before[..., one] - before[..., other]
        new = masks[:overlap, :, one] - masks[:overlap, :, other]
        size = ((power * old.abs().square()).sum() * (power * new.abs().square()).sum()).sqrt()
        is_sure = is_sure and bool((power * (old * new.conj()).real).sum() >= SURE * size)
    return torch.cat([common, masks[overlap:]]), is_sure
