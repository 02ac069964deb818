import numpy as np
import pytest
import soundfile

from separation.data import audio
from separation.data.decoding import read
from separation.errors import InputError


def test_reads_channels_and_rate(tmp_path):
    samples = np.stack([np.linspace(-0.5, 0.5, 100), np.zeros(100)], 1)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    decoded, rate = read(tmp_path / "a.flac")
    assert rate == 16000
    np.testing.assert_allclose(decoded, samples, atol=2**-15)


def test_a_wav_file_that_ends_early_is_named(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(8000) / 9, 8000)
    whole = path.read_bytes()
    path.write_bytes(whole[:10_044])
    with pytest.raises(InputError, match=r"a.wav: ends early \(10000 of 16000 bytes\); replace it"):
        read(path)
    size = whole.index(b"data") + 4  # of a stream nobody knew it when the header was written
    path.write_bytes(whole[:size] + b"\xff\xff\xff\xff" + whole[size + 4 :])
    assert len(read(path)[0]) == 8000


def test_mono_is_the_mean_of_the_channels_at_the_asked_rate(tmp_path):
    time = np.arange(44100) / 44100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, 0 * tone], 1), 44100)
    mono = audio.read_mono(tmp_path / "a.wav", 8000)
    assert mono.shape == (8000,) and mono.dtype == np.float32
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    np.testing.assert_allclose(mono[200:-200], expected[200:-200], atol=1e-4)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    tone = np.sin(2 * np.pi * 6000 * np.arange(32000) / 32000).astype(np.float32)
    assert np.abs(audio.resample(tone, 32000, 8000)[100:-100]).max() < 0.01


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "can't be read as audio"),
        (b"RIFF....WAVEfmt nonsense", "can't be read as audio"),
        (np.zeros((0, 1)), "holds no samples"),
        (np.append(np.ones(999), np.nan), "NaN or infinite"),
        (np.zeros(800), "is silent"),
        (np.ones(799), "is shorter than 0.1 s"),
        (np.eye(1, 8000, 4000)[0], "holds less than 0.1 s that isn't silence"),
        (np.append(np.ones(799), np.zeros(7201)), "holds less than 0.1 s that isn't silence"),
        (np.outer(np.sin(np.arange(8000.0)), [1, -0.95]), "is silent in the mean of its channels"),
        (
            np.outer(np.sin(np.arange(8000.0)), [1, -1]),
            "is silent in the mean of its channels, which cancel each other",
        ),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path, content, words):
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, 8000, subtype="FLOAT")
    with pytest.raises(InputError, match=f"{path}: .*{words}.*(replace or remove it|keep one of them)"):
        audio.read_mono(path, 8000)
    with pytest.raises(InputError, match="missing.wav"):
        read(tmp_path / "missing.wav")


def test_written_files_keep_what_exceeds_full_scale(tmp_path):
    audio.write(tmp_path / "a.wav", np.array([0.0, 1.7, -2.5], np.float32), 8000)
    assert read(tmp_path / "a.wav")[0][:, 0].tolist() == pytest.approx([0.0, 1.7, -2.5])
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("offset", [0.02, 0.1, -0.5])
def test_an_offset_is_removed_where_it_matters(tmp_path, offset):
    speech = 0.05 * np.random.default_rng(0).standard_normal(8000)
    speech -= speech.mean()
    soundfile.write(tmp_path / "a.wav", speech + offset, 8000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read_mono(tmp_path / "a.wav", 8000, keep_offset=False), speech, atol=1e-7)
    np.testing.assert_allclose(audio.read_mono(tmp_path / "a.wav", 8000), speech + offset, atol=1e-7)
    soundfile.write(tmp_path / "a.wav", speech + 0.002, 8000, subtype="FLOAT")  # 4% of the level stays as it is
    samples, _ = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(audio.read_mono(tmp_path / "a.wav", 8000, keep_offset=False), samples[:, 0])


def test_a_copy_at_the_models_rate_will_do(tmp_path):
    for rate in (6000, 8000, 12_000, 16_000, 44_100):
        soundfile.write(tmp_path / f"{rate}.wav", np.random.default_rng(0).standard_normal(rate) / 9, rate)
    for rate in (8000, 12_000, 16_000):
        assert len(audio.read_mono(tmp_path / f"{rate}.wav", 8000, expected_rate=16_000)) == 8000
    for rate in (6000, 44_100):
        with pytest.raises(InputError, match=f"says its rate is {rate} Hz; this corpus has 16000 Hz"):
            audio.read_mono(tmp_path / f"{rate}.wav", 8000, expected_rate=16_000)
