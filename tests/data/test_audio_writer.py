import numpy as np
import pytest
import soundfile

from separation.data.audio_writer import FORMATS, suffix, writing
from separation.errors import InputError


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_make_a_file(tmp_path, name):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (5000, 2)).astype(np.float32)
    path = tmp_path / f"a{suffix(name)}"
    with writing(path, 22_050, 2, 5000, name) as writer:
        writer.write(samples[:1234])
        assert not path.exists()
        writer.write(samples[1234:])
    assert writer.num_clipped == 0
    info = soundfile.info(path)
    assert (info.format, info.subtype) == FORMATS[name] and (info.samplerate, info.frames) == (22_050, 5000)
    digits = {"FLOAT": 0, "PCM_24": 2**-23, "PCM_16": 2**-15}[info.subtype]
    np.testing.assert_allclose(soundfile.read(path)[0], samples, rtol=0, atol=digits)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("name", "clipped"), [("wav", 0), ("wav16", 2), ("flac", 2)])
def test_samples_beyond_full_scale_are_counted_where_they_are_clipped(tmp_path, name, clipped):
    path = tmp_path / f"a{suffix(name)}"
    with writing(path, 8000, 1, 4, name) as writer:
        writer.write(np.array([[0.5], [1.5], [-2.0], [-1.0]], dtype=np.float32))
    assert writer.num_clipped == clipped
    expected = [0.5, 1.0, -1.0, -1.0] if clipped else [0.5, 1.5, -2.0, -1.0]
    np.testing.assert_allclose(soundfile.read(path)[0], expected, atol=1e-4)


def write(path, *blocks, channels=1, audio_format="wav"):
    with writing(path, 8000, channels, 100, audio_format) as writer:
        for block in blocks:
            writer.write(block)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, value):
    path = tmp_path / "a.wav"
    path.write_text("old")
    with pytest.raises(InputError, match="a.wav: not written, since the samples are NaN or infinite"):
        write(path, np.zeros((10, 1), dtype=np.float32), np.full((10, 1), value, dtype=np.float32))
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_what_a_format_cannot_hold_is_named(tmp_path):
    with pytest.raises(InputError, match="a.flac: can't be written as flac .*another output or format"):
        write(tmp_path / "a.flac", channels=9, audio_format="flac")
    with pytest.raises(InputError, match="a.wav: can't be written"):
        write(tmp_path / "missing/a.wav")


def test_more_than_a_wav_file_holds_becomes_rf64(tmp_path):
    samples = np.ones((10, 2), dtype=np.float32)
    for num_samples, container in ((2**29 - 2**13, "WAV"), (2**29, "RF64")):  # times 2 channels of 4 bytes
        with writing(tmp_path / "a.wav", 8000, 2, num_samples, "wav") as writer:
            writer.write(samples)
        assert soundfile.info(tmp_path / "a.wav").format == container
        np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav")[0], samples)
