import hashlib
import importlib.metadata
import itertools
import os
import shutil
import sys
import time

import numpy as np
import pytest

from separation.data.corpora import demo
from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, TRAIN, VALID
from separation.data.corpora.demo import KNOWN_VOICES, UNKNOWN_VOICES, DemoCorpus, Voice
from separation.data.corpora.demo_sentences import first_sentences
from separation.errors import InputError

RATE = 8000
UNNATURAL = {"whisper", "whisperf", "UniRobot", "anikaRobot", "Demonic", "announcer", "croak", "fast", "Tweaky", "zac"}
UNNATURAL |= {"kaukovalta", "caleb", "RicishayMax", "RicishayMax2", "RicishayMax3", "klatt"}


def corpus(**settings) -> DemoCorpus:
    return DemoCorpus(**{"sample_rate": RATE, "num_train": 1, "num_valid": 1, "num_test": 1, "sentences": 8} | settings)


def digests(recordings) -> dict[str, str]:
    return {r.name: hashlib.sha256(r.samples.tobytes()).hexdigest() for r in recordings}


def fundamental(samples: np.ndarray, rate: int) -> float:
    """Median over voiced 50 ms frames of the lag in 1/450 to 1/60 s at which the autocorrelation peaks first, in Hz."""
    length = rate // 20
    frames = samples[: len(samples) // length * length].reshape(-1, length).astype(float)
    frames = frames[np.mean(frames**2, axis=1) > 0.5 * np.mean(samples.astype(float) ** 2)] * np.hanning(length)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2 * length)) ** 2)[:, :length]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(length), 2 * length)) ** 2)[:length]
    lags = np.arange(rate // 450, rate // 60)
    peaks = (correlation / correlation[:, :1] / (window / window[0]))[:, lags]
    return float(np.median([rate / lags[np.argmax(row > 0.9 * row.max())] for row in peaks]))


@pytest.fixture(scope="module")
def spoken() -> list:
    return list(corpus(voices=3, unknown_voices=1).recordings())


def test_names_speakers_splits_and_order(spoken):
    known, unknown = [TRAIN] * 8 + [VALID] + [TEST] * 2, [TEST_UNKNOWN] * 2
    expected = [(f"voice{v:02}/{i:04}", f"voice{v:02}", split) for v in range(3) for i, split in enumerate(known)]
    expected += [(f"unknown00/{i:04}", "unknown00", split) for i, split in enumerate(unknown)]
    assert [(r.name, r.speaker, r.split) for r in spoken] == expected


def test_samples_are_mono_float32_of_a_sentence_at_a_sane_level(spoken):
    for recording in spoken:
        samples = recording.samples
        assert samples.dtype == np.float32 and samples.ndim == 1
        assert 1.2 < len(samples) / RATE < 4
        assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.2
        assert np.abs(samples).max() < 1


@pytest.mark.parametrize("workers", [1, 2])
def test_audio_depends_neither_on_workers_nor_on_the_number_of_voices(spoken, workers, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    again = digests(corpus(voices=2, unknown_voices=2).recordings())
    before = digests(spoken)
    common = before.keys() & again.keys()
    assert len(common) == 2 * 11 + 2
    assert {name: before[name] for name in common} == {name: again[name] for name in common}


def test_breathy_voice_is_the_same_at_another_time():
    breathy = KNOWN_VOICES[1]
    assert breathy.variant == "f2"  # its noise would be seeded by the clock
    first = demo._speak(breathy, ["She waited by the river."])[0]
    time.sleep(1.1)  # espeak-ng's clock counts whole seconds
    second = demo._speak(breathy, ["She waited by the river."])[0]
    np.testing.assert_array_equal(first, second)


def test_no_sentence_occurs_twice_in_the_corpus(monkeypatch):
    texts = []

    def speak(voice: Voice, voice_texts: list[str]) -> list[np.ndarray]:
        texts.append(voice_texts)
        return [np.ones(4, np.int16) for _ in voice_texts]

    monkeypatch.setattr(demo, "_speak", speak)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    recordings = list(corpus(sample_rate=demo.ESPEAK_RATE, voices=72, sentences=40).recordings())
    assert len(recordings) == 72 * (40 + 5 + 10) + 8 * 10
    assert len(set(itertools.chain(*texts))) == len(recordings)  # distinct, so no split shares one with another


def test_sentences_are_distinct_and_in_a_fixed_order():
    drawn = first_sentences(20_000)
    assert len(set(drawn)) == 20_000
    assert first_sentences(100) == drawn[:100]
    assert all(4 <= len(text.split()) <= 18 and text[-1] in ".?" and text[0].isupper() for text in drawn)
    assert drawn[0] == "Why did the old farmer forget the kitchen table?"


def test_voices_are_distinct_and_natural():
    voices = KNOWN_VOICES + UNKNOWN_VOICES
    assert len(KNOWN_VOICES) == 72 and len(UNKNOWN_VOICES) == 8
    assert len({(voice.variant, voice.pitch) for voice in voices}) == 80
    assert not {voice.variant for voice in KNOWN_VOICES} & {voice.variant for voice in UNKNOWN_VOICES}
    assert not [v for v in voices if v.variant in UNNATURAL or v.variant.startswith(("robosoft", "klatt"))]
    for one, other in itertools.combinations(voices, 2):
        assert one.variant != other.variant or abs(one.pitch - other.pitch) >= 6


def test_first_eight_voices_differ_in_pitch():
    texts = first_sentences(4)
    pitches = sorted(fundamental(np.concatenate(demo._speak(v, texts)), demo.ESPEAK_RATE) for v in KNOWN_VOICES[:8])
    assert pitches[0] > 70 and pitches[-1] < 270
    assert all(higher / lower > 2 ** (1 / 12) for lower, higher in itertools.pairwise(pitches))


@pytest.mark.parametrize(
    ("key", "value"),
    [("voices", 1), ("voices", 73), ("unknown_voices", 9), ("unknown_voices", -1), ("sentences", 7), ("voices", 2.0)],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(InputError, match=rf"data\.{key}={value}: must be a whole number from \d+ to \d+"):
        corpus(**{key: value})


@pytest.mark.parametrize("voice", [Voice("en-us", "missing", 170, 50), Voice("xx-missing", "m1", 170, 50)])
def test_voice_that_espeak_lacks_is_an_error(voice):
    with pytest.raises(InputError, match=rf"has no voice {voice.accent}\+{voice.variant}"):
        demo._speak(voice, ["Good morning."])


def test_child_that_dies_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(InputError, match="exit status 1"):
        next(corpus().recordings())


def test_missing_package_is_an_error(monkeypatch):
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(InputError, match="pip install espeakng-loader"):
        corpus().fingerprint()
    with pytest.raises(InputError, match="pip install espeakng-loader"):
        next(corpus().recordings())


def test_fingerprint_changes_with_settings():
    assert corpus().fingerprint() == corpus().fingerprint()
    variants = [corpus(), corpus(voices=9), corpus(unknown_voices=0), corpus(sentences=9)]
    assert len({str(variant.fingerprint()) for variant in variants}) == 4
