import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import run_program, voice

from separation.app.assembly import TrainedModel
from separation.data import audio
from separation.evaluation.long_recordings import RecordingSeparator
from separation.model.features import Stft


class HighAndLow(torch.nn.Module):
    """A perfect model for tones on either side of 1 kHz, whose sources change places from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, magnitude: torch.Tensor) -> dict[str, torch.Tensor]:
        low = (torch.arange(129) < 32).float().expand_as(magnitude)
        self.calls += 1
        masks = [low, 1 - low] if self.calls % 2 else [1 - low, low]
        return {"mask": torch.stack(masks, -1)}


def separator(segment: int, overlap: int) -> RecordingSeparator:
    model = TrainedModel(HighAndLow(), lambda outputs, magnitude: outputs["mask"], Stft(), torch.device("cpu"))
    return RecordingSeparator(model, 8000, 0.07, segment, overlap)


def tones(rate: int, seconds: float) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.stack([np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 2500 * time)]).astype(np.float32)


@pytest.mark.parametrize("level", [1e-4, 0.3, 1.0])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_voices_go_on_across_pieces_at_their_own_rate_and_level(rate, level):
    sources = level * tones(rate, 3.3)
    estimates = separator(segment=8000, overlap=2000)(sources.sum(0)[:, None], rate)
    assert estimates.shape == (2, sources.shape[1], 1)
    edge = rate // 20
    error = np.abs(estimates[..., 0] - sources)[:, edge:-edge].max()
    assert error < 0.05 * level


def test_every_channel_keeps_its_level():
    low, high = tones(8000, 2.0)
    estimates = separator(16000, 4000)(np.stack([low, 0.25 * low + high], 1), 8000)
    np.testing.assert_allclose(estimates[0][400:-400], np.stack([low, 0.25 * low], 1)[400:-400], atol=0.05)
    np.testing.assert_allclose(estimates[1][400:-400], np.stack([0 * high, high], 1)[400:-400], atol=0.05)


@pytest.mark.parametrize("length", [1, 50, 8000, 8001, 14000, 14001])
def test_any_length_and_silence(length):
    estimates = separator(8000, 2000)(np.zeros((length, 2), np.float32), 8000)
    assert estimates.shape == (2, length, 2) and not estimates.any()


def test_separate_program(make_run, tmp_path):
    mixture = voice(120, 1.5, 22050, 0) + voice(230, 1.5, 22050, 1)
    (tmp_path / "in/sub").mkdir(parents=True)
    soundfile.write(tmp_path / "in/sub/talk.flac", np.stack([mixture, mixture], 1), 22050)
    result = run_program("separate.py", f"run={make_run()}", "input=in", "output=out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.wav"))
    assert names == ["sub/talk_source1.wav", "sub/talk_source2.wav"]
    samples, rate = audio.read(tmp_path / "out" / names[0])
    assert (samples.shape, rate) == ((len(mixture), 2), 22050)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["input=nothing"], "input=nothing: no such file or folder"),
        (["input=empty"], "input=empty: holds no audio files"),
        (["input=twins"], "another file has the same name"),
        (["input=bad.wav"], "bad.wav: can't be read as audio"),
        (["input=bad.wav", "overlap_seconds=40"], "overlap_seconds=40: expected"),
        ([], "input"),
    ],
)
def test_bad_inputs_end_with_a_sentence(arguments, words, make_run, tmp_path):
    for folder in ("empty", "twins"):
        (tmp_path / folder).mkdir()
    for name in ("twins/a.wav", "twins/a.flac", "bad.wav"):
        (tmp_path / name).write_text(json.dumps("no audio"))
    result = run_program("separate.py", f"run={make_run()}", *arguments, cwd=tmp_path)
    assert result.returncode in (1, 2) and words in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "separated").exists() or not list((tmp_path / "separated").rglob("*.wav"))
