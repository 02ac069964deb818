import numpy as np
import pytest

from separation.evaluation.activity import active_frames, level_gains

RATE = 100.0


def speech(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    """Power of frames as syllables have it: twice a second from 0 to a peak and back, with the mean square `rms`²."""
    time = np.arange(round(seconds * RATE)) / RATE
    wobble = np.random.default_rng(seed).uniform(0.9, 1.1, len(time))
    power = np.sin(2 * np.pi * time) ** 4 * wobble
    return (power * rms**2 / power.mean()).astype(np.float32)


def noise(seconds: float, rms: float) -> np.ndarray:
    return np.full(round(seconds * RATE), rms**2, dtype=np.float32)


def active(power: np.ndarray, pause_level: float = 25, pause_seconds: float = 0.5) -> np.ndarray:
    return active_frames(power, RATE, pause_level, pause_seconds)


@pytest.mark.parametrize("pause", [1, 7, 20, 100, 1000])
@pytest.mark.parametrize("floor", [0.0, 1e-4, 1e-3])
def test_a_long_pause_is_cut_to_its_length(pause, floor):
    power = np.concatenate([speech(10, 0.07), noise(pause, floor), speech(10, 0.07)])
    if floor == 1e-3 and pause == 1000:
        pytest.skip("speech is too far away to tell such noise from it")
    found = active(power)
    assert found[:1000].all() and found[-1000:].all()
    assert found[1000:-1000].sum() == pytest.approx(50, abs=12)  # half of pause_seconds at either end


def test_short_pauses_and_silence_are_heard():
    power = np.concatenate([speech(5, 0.07), noise(0.4, 0), speech(5, 0.07)])
    assert active(power).all()
    assert active(np.zeros(1234, dtype=np.float32)).all()
    assert active(np.ones(1, dtype=np.float32)).tolist() == [True]
    assert active(np.zeros(0, dtype=np.float32)).tolist() == []


@pytest.mark.parametrize("louder", [20, 40])
@pytest.mark.parametrize("side", [1, -1])
def test_something_louder_on_one_side_hides_no_speech(louder, side):
    power = np.concatenate([noise(60, 0.07 * 10 ** (louder / 20)), speech(10, 0.07)][::side])
    assert active(power).all()


@pytest.mark.parametrize("rms", [1e-4, 0.01, 0.5])
def test_one_level_gets_one_gain(rms):
    power = speech(20, rms)
    gains = level_gains(power, RATE, 0.07)
    np.testing.assert_allclose(gains, 0.07 / rms, rtol=1e-5)


@pytest.mark.parametrize("change", [12, 20, 40, -20])
def test_each_level_gets_a_gain_of_its_own(change):
    factor = 10 ** (change / 20)
    power = np.concatenate([speech(10, 0.01), speech(10, 0.01 * factor), speech(10, 0.01)])
    gains = level_gains(power, RATE, 0.07)
    for start, expected in ((0, 7.0), (1000, 7.0 / factor), (2000, 7.0)):
        middle = gains[start + 150 : start + 850]
        np.testing.assert_allclose(20 * np.log10(middle / expected), 0, atol=1.5)


def test_a_click_sets_no_level():
    power = speech(3, 0.01)
    power[150] = 1.0  # 40 dB louder for 10 ms: the mean over all would be 16 dB higher
    gains = level_gains(power, RATE, 0.07)
    np.testing.assert_allclose(20 * np.log10(gains / 7), 0, atol=2)


def test_silence_keeps_its_level():
    assert level_gains(np.zeros(500, dtype=np.float32), RATE, 0.07).tolist() == [1.0] * 500
    assert level_gains(np.ones(1, dtype=np.float32), RATE, 0.07).tolist() == pytest.approx([0.07])


@pytest.mark.filterwarnings("error")
def test_silence_after_loud_speech_has_a_level():
    """A running mean rounds to less than zero there, of which there is no logarithm."""
    power = np.concatenate([np.full(400, 1e3), np.zeros(400), np.full(400, 1e-3), np.zeros(400)])
    for seed in range(20):
        noisy = power * np.random.default_rng(seed).uniform(0.1, 10, len(power))
        assert np.isfinite(level_gains(noisy, 125.0, 0.05)).all()
