from collections.abc import Iterator

import numpy as np
import pytest
import torch

from separation.data.audio_stream import Recording
from separation.evaluation.long_recordings import RecordingSeparator, join, joint_power
from separation.model.features import Mixture, Stft
from separation.model.separators import MaskSeparator, TrainedModel
from separation.model.separators import separate as separate_whole

RMS = 0.07
EDGE = 400


class HighAndLow(torch.nn.Module):
    """A perfect model for tones on either side of 1 kHz, whose sources change places from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        magnitude = mixture.magnitude
        low = (torch.arange(129) < 32).float().expand_as(magnitude)
        self.calls += 1
        masks = [low, 1 - low] if self.calls % 2 else [1 - low, low]
        return {"mask": torch.stack(masks, -1)}


class Forgetful(HighAndLow):
    """The same, but the sources change places after each pause of more than 0.6 s too."""

    def forward(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        magnitude = mixture.magnitude
        mask = super().forward(mixture)["mask"]
        loud = magnitude[0].square().sum(-1) > 1e-3 * magnitude[0].square().sum(-1).max()
        quiet, swapped = 0, False
        for frame, is_loud in enumerate(loud.tolist()):
            swapped ^= is_loud and quiet > 75
            quiet = 0 if is_loud else quiet + 1
            if swapped:
                mask[0, frame] = mask[0, frame].flip(-1)
        return {"mask": mask}


class AtItsLevel(HighAndLow):
    """The same, but right within 6 dB of its training level only."""

    def forward(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        magnitude = mixture.magnitude
        power = Stft()(RMS * 2**0.5 * torch.sin(0.3 * torch.arange(8000))).abs().square().sum(-1)[60]
        level = 10 * (magnitude.square().sum(-1, keepdim=True) / power).log10().unsqueeze(-1)
        mask = super().forward(mixture)["mask"]
        return {"mask": torch.where(level.abs() < 6, mask, torch.full_like(mask, 0.5))}


def separator(
    network: torch.nn.Module, segment: float = 1.0, overlap: float = 0.25, mixture_rms: float | None = RMS
) -> RecordingSeparator:
    model = TrainedModel(network, MaskSeparator(), Stft(), torch.device("cpu"))
    return RecordingSeparator(
        model,
        num_sources=2,
        sample_rate=8000,
        mixture_rms=mixture_rms,
        segment_seconds=segment,
        overlap_seconds=overlap,
        pause_seconds=0.5,
        pause_level=25,
    )


def recording(samples: np.ndarray, rate: int = 8000) -> Recording:
    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(samples), 5000):
            yield samples[start : start + 5000].astype(np.float32)

    return Recording(rate, samples.shape[1], blocks)


def separate(network: torch.nn.Module, samples: np.ndarray, rate: int = 8000, **settings: float | None) -> np.ndarray:
    """Shape (time, channel) -> (source, time, channel)."""
    separates, source = separator(network, **settings), recording(samples, rate)
    return np.concatenate(list(separates.separate(source, separates.survey(source))), axis=1)


def tones(rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 2500 * time)]).astype(np.float32)


@pytest.mark.parametrize("level", [1e-4, 0.3, 1.0])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_voices_go_on_across_pieces_at_their_own_rate_and_level(rate, level):
    sources = level * tones(rate, 3.3)
    estimates = separate(HighAndLow(), sources.sum(0)[:, None], rate)
    assert estimates.shape == (2, sources.shape[1], 1)
    edge = rate // 20
    error = np.abs(estimates[..., 0] - sources)[:, edge:-edge].max()
    assert error < 0.05 * level


def test_every_channel_keeps_its_level():
    low, high = tones(8000, 2.0)
    estimates = separate(HighAndLow(), np.stack([low, 0.25 * low + high], 1), segment=2, overlap=0.5)
    np.testing.assert_allclose(estimates[0][EDGE:-EDGE], np.stack([low, 0.25 * low], 1)[EDGE:-EDGE], atol=0.05)
    np.testing.assert_allclose(estimates[1][EDGE:-EDGE], np.stack([0 * high, high], 1)[EDGE:-EDGE], atol=0.05)


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("length", [1, 50, 8000, 8001, 14000, 14001])
def test_any_length_and_silence(length, rate):
    estimates = separate(HighAndLow(), np.zeros((length, 2), np.float32), rate)
    assert estimates.shape == (2, length, 2) and not estimates.any()


class Local(torch.nn.Module):
    """Masks that depend on their bin alone, or on the whole piece too."""

    def __init__(self, sees_all: bool) -> None:
        super().__init__()
        self.sees_all = sees_all

    def forward(self, mixture: Mixture) -> dict[str, torch.Tensor]:
        magnitude = mixture.magnitude
        scale = magnitude.mean((1, 2), keepdim=True) if self.sees_all else 0.003
        mask = magnitude / (magnitude + scale)
        return {"mask": torch.stack([mask, 0.5 * (1 - mask)], -1)}


def syllables(seconds: float) -> np.ndarray:
    time = np.arange(round(8000 * seconds)) / 8000
    samples = np.random.default_rng(0).standard_normal(len(time)) * np.sin(2 * np.pi * 1.5 * time) ** 2
    return (samples / 10).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.01, 0.9, 4.321])
def test_a_clean_recording_shorter_than_a_piece_is_separated_as_a_whole(seconds):
    samples = syllables(seconds)
    gain = RMS / np.sqrt(np.square(samples).mean())
    network, mixture, length = (
        Local(sees_all=True),
        torch.from_numpy(gain * samples)[None],
        torch.tensor([len(samples)]),
    )
    whole = separate_whole(network, MaskSeparator(), Stft(), mixture, length)[0] / gain
    estimates = separate(network, samples[:, None], segment=30, overlap=5)[..., 0]
    # The power of the last hop, which isn't whole, makes the only difference.
    np.testing.assert_allclose(estimates, whole, atol=2e-3 * np.abs(samples).max() / seconds**0.5)


def test_pieces_fit_together():
    samples = syllables(7.3)[:, None]
    whole, pieces = (
        separate(Local(sees_all=False), samples, mixture_rms=None, segment=segment, overlap=0.5)
        for segment in (30, 1.3)
    )
    np.testing.assert_allclose(pieces, whole, atol=1e-6)
    spectrogram = Stft()(torch.from_numpy(samples[:, 0]))
    mask = spectrogram.abs() / (spectrogram.abs() + 0.003)
    np.testing.assert_allclose(whole[0, :, 0], Stft().inverse(mask * spectrogram, len(samples)), atol=1e-6)


@pytest.mark.parametrize("pause", [1, 3.7, 20])
@pytest.mark.parametrize("noise", [0, 1e-4, 1e-3])
def test_voices_keep_their_places_across_pauses(pause, noise):
    speech = RMS * tones(8000, 2.2)
    silence = np.zeros((2, round(8000 * pause)), dtype=np.float32)
    sources = np.concatenate([speech, silence, speech, silence, speech], axis=1)
    mixture = sources.sum(0) + noise * np.random.default_rng(0).standard_normal(sources.shape[1])
    estimates = separate(Forgetful(), mixture[:, None].astype(np.float32), segment=2, overlap=0.7)[..., 0]
    for start in (0, 17_600 + silence.shape[1], 2 * (17_600 + silence.shape[1])):
        spoken = slice(start + EDGE, start + 17_600 - EDGE)
        np.testing.assert_allclose(estimates[:, spoken], sources[:, spoken], atol=0.05 * RMS + 4 * noise)
    paused = slice(17_600 + 8000 // 2, 17_600 + silence.shape[1] - 8000 // 2)
    np.testing.assert_allclose(estimates[:, paused], np.tile(mixture[paused] / 2, (2, 1)), atol=1e-6)


def check_level(factors: np.ndarray) -> None:
    """Tones come apart that are multiplied by factors, each for some seconds."""
    sources = factors * tones(8000, len(factors) / 8000)
    estimates = separate(AtItsLevel(), sources.sum(0)[:, None], segment=30, overlap=5)[..., 0]
    steady = np.convolve(np.abs(np.diff(np.log(factors), prepend=0)) > 0.1, np.ones(4000), mode="same") < 0.5
    steady[:EDGE] = steady[-EDGE:] = False
    assert (np.abs(estimates - sources) / factors)[:, steady].max() < 0.05


@pytest.mark.parametrize("gains", [[1], [1e-3], [1, 10, 1], [1, 0.01, 0.01], [100, 1, 10, 1], [1] * 9 + [30]])
def test_each_stretch_is_heard_at_the_training_level(gains):
    check_level(np.repeat(gains, 6 * 8000))


def test_levels_that_change_slowly_are_followed():
    check_level(np.geomspace(0.01, 1, 120 * 8000))


@pytest.mark.parametrize("louder", [20, 40])
@pytest.mark.parametrize("after", [False, True])
def test_loud_noise_beside_speech_changes_nothing(louder, after):
    sources = RMS * tones(8000, 8)
    noise = RMS * 10 ** (louder / 20) * np.random.default_rng(0).standard_normal(60 * 8000)
    mixture = np.concatenate([sources.sum(0), noise] if after else [noise, sources.sum(0)])[:, None]
    estimates = separate(AtItsLevel(), mixture, segment=30, overlap=5)[..., 0]
    spoken = estimates[:, : 64_000 - 4000] if after else estimates[:, -64_000 + 4000 :]
    expected = sources[:, :60_000] if after else sources[:, 4000:]
    errors = [np.abs(spoken[[one, 1 - one]] - expected)[:, EDGE:-EDGE].max() for one in (0, 1)]
    assert min(errors) < 0.05 * RMS


@pytest.mark.parametrize("offset", [0.02, 0.1, -0.5, (0.3, 0.0)])
def test_an_offset_is_removed(offset):
    sources = 0.05 * tones(8000, 3)
    stereo = np.repeat(sources.sum(0)[:, None], 2, axis=1)
    estimates = separate(HighAndLow(), stereo + np.array(offset), segment=30, overlap=5)
    expected = np.repeat(sources[..., None], 2, axis=2)
    np.testing.assert_allclose(estimates[:, EDGE:-EDGE], expected[:, EDGE:-EDGE], atol=0.003)
    assert np.abs(estimates.mean(1)).max() < 1e-4


def test_neither_the_mean_of_speech_nor_a_clicks_is_an_offset():
    samples = RMS * tones(8000, 3).sum(0)[:, None]
    samples[12_000:12_080] += 1.0  # the second's mean becomes 14% of the level
    for off, expected in ((0.0, 0.0), (0.002, 0.0), (0.02, 0.02)):
        survey = separator(HighAndLow()).survey(recording(samples + off))
        np.testing.assert_allclose(survey.offsets, np.full((3, 1), expected), atol=4e-4)


@pytest.mark.parametrize("right", [-1.0, -0.9, 0.0, 1.0])
def test_channels_may_cancel(right):
    sources = RMS * tones(8000, 3)
    estimates = separate(AtItsLevel(), sources.sum(0)[:, None] * [1, right], segment=30, overlap=5)
    expected = sources[..., None] * np.array([1, right])
    np.testing.assert_allclose(estimates[:, EDGE:-EDGE], expected[:, EDGE:-EDGE], atol=0.05 * RMS)


def test_joint_power_is_the_means_and_a_tenth_of_what_cancels():
    left, right = torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([3.0, -1.0, 0.0, 1j])
    torch.testing.assert_close(joint_power(torch.stack([left.to(right), right])), torch.tensor([9.0, 0.1, 1.1, 0.55]))
    torch.testing.assert_close(joint_power(right[None]), torch.tensor([9.0, 1.0, 0.0, 1.0]), rtol=0, atol=0)


def test_a_piece_is_brought_into_the_order_before_it():
    before = torch.rand(10, 129, 3)
    piece = torch.cat([before[..., [2, 0, 1]], torch.arange(3.0).expand(5, 129, 3)])
    masks, is_sure = join(before, piece, torch.ones(10, 129))
    assert is_sure
    torch.testing.assert_close(masks[:10], before)
    assert masks[10, 0].tolist() == [1, 2, 0]
    fade = torch.linspace(0, 1, 10)
    masks, is_sure = join(before, torch.zeros(15, 129, 3) + torch.eye(3)[0], torch.ones(10, 129))
    assert not is_sure  # the second and the third voice are alike
    torch.testing.assert_close(masks[:10].sum(), ((1 - fade) * before.sum((1, 2))).sum() + 129 * fade.sum())


def test_where_voices_may_have_changed_places_is_said():
    class Guess(torch.nn.Module):
        def forward(self, mixture: Mixture) -> dict[str, torch.Tensor]:
            magnitude = mixture.magnitude
            return {"mask": torch.rand(*magnitude.shape, 2)}

    samples = recording(tones(8000, 2.4).sum(0)[:, None])
    for network, doubts in ((Guess(), [(0.75, 1.0), (1.5, 1.75)]), (HighAndLow(), [])):
        separates = separator(network)
        survey = separates.survey(samples)
        list(separates.separate(samples, survey))
        np.testing.assert_allclose(survey.doubts, doubts, atol=0.01)


def test_reading_keeps_step_with_writing():
    """So that memory doesn't depend on the length: only what a piece needs is read ahead."""
    ends: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        ends.append(0)
        number = len(ends) - 1
        for _ in range(400):  # 100 s
            ends[number] += 2000
            yield np.random.default_rng(0).standard_normal((2000, 1)).astype(np.float32)

    separates, source, written, ahead = separator(HighAndLow()), Recording(8000, 1, blocks), 0, 0
    for block in separates.separate(source, separates.survey(source)):
        ahead = max(ahead, max(ends[1:]) - written)
        written += block.shape[1]
    assert written == 800_000 and len(ends) == 3 and ahead < 5 * 8000
