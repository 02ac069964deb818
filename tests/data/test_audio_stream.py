import numpy as np
import pytest
import soundfile
import torch

from separation.data import audio
from separation.data.audio_stream import Rows, equal_blocks, open_recording, resample_blocks, subtract_offsets
from separation.data.decoding import read
from separation.errors import InputError


def in_blocks(samples, *sizes):
    for size in sizes:
        yield samples[:size]
        samples = samples[size:]
    yield samples


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_blocks_are_the_file(tmp_path, name):
    samples = 0.1 * np.random.default_rng(0).standard_normal((300_000, 2))
    soundfile.write(tmp_path / name, samples, 44_100)
    recording = open_recording(tmp_path / name)
    whole, rate = read(tmp_path / name)
    assert (recording.rate, recording.channels) == (rate, 2)
    for _ in range(2):  # from the beginning each time
        blocks = list(recording.blocks())
        assert len(blocks) > 2
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_what_is_wrong_with_a_file_is_named(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(InputError, match="a.wav: can't be read as audio"):
        open_recording(path)
    soundfile.write(path, np.append(np.zeros(9000), np.nan), 8000, subtype="FLOAT")
    with pytest.raises(InputError, match="a.wav: holds NaN or infinite samples"):
        list(open_recording(path).blocks())
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match="a.wav: ends early"):
        list(open_recording(path).blocks())


def test_ranges_of_rows_across_blocks():
    rows = Rows(in_blocks(torch.arange(100), 0, 7, 13, 1))
    assert rows.take(0, 0).tolist() == []
    assert rows.take(3, 25).tolist() == list(range(3, 25))
    assert rows.take(3, 5).tolist() == [3, 4]
    assert rows.take(24, 90).tolist() == list(range(24, 90))
    assert rows.take(90, 200).tolist() == list(range(90, 100))
    assert rows.take(100, 200).tolist() == []


@pytest.mark.parametrize(("rate", "target"), [(44_100, 8000), (8000, 44_100), (8000, 8000), (11_025, 16_000)])
@pytest.mark.parametrize("length", [1, 5000, 60_007])
def test_resampled_blocks_are_the_resampled_whole(rate, target, length):
    samples = np.random.default_rng(0).standard_normal((length, 2)).astype(np.float32)
    blocks = resample_blocks(in_blocks(samples, 1, 4000, 10_000), rate, target)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), audio.resample(samples, rate, target))


def test_blocks_of_one_size():
    blocks = list(equal_blocks(in_blocks(torch.arange(25), 3, 14, 0), 10))
    assert [block.tolist() for block in blocks] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert list(equal_blocks(iter([torch.zeros(0, 2)]), 10)) == []


def test_offsets_are_straight_lines_from_middle_to_middle():
    """As NumPy interpolates them; constant before the first block's middle and after the last's."""
    samples, offsets = torch.randn(35, 2), torch.tensor([[1.0, 0.0], [3.0, -1.0], [2.0, 5.0], [2.0, 6.0]])
    result = torch.cat(list(subtract_offsets(samples.split(10), offsets, 10)))
    for channel in (0, 1):
        line = np.interp(np.arange(35) + 0.5, [5, 15, 25, 35], offsets[:, channel])
        np.testing.assert_allclose(result[:, channel], samples[:, channel].numpy() - line, atol=1e-5)
