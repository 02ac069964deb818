"""STOI, ESTOI and PESQ: their packages' numbers, and NaN where those give none, or a wrong one."""

import json
import math
import sys
from types import ModuleType

import numpy as np
import pytest
import trees
from conftest import voice
from test_unscored import listed, pair, scored

from separation.errors import InputError
from separation.evaluation import perceptual
from separation.evaluation.evaluator import EvaluationSettings
from separation.evaluation.perceptual import check_perceptual, estoi, perceptual_scores, pesq, stoi
from separation.runs.summaries import score_table

RATES = (8000, 16_000)


def noisy(rate: int, seconds: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """An estimate and its reference."""
    reference = voice(120, seconds, rate, seed=1)
    return reference + 0.5 * voice(210, seconds, rate, seed=2), reference


@pytest.mark.parametrize("rate", [*RATES, 44_100])
def test_stoi_is_pystois(rate):
    from pystoi import stoi as pystoi

    estimate, reference = noisy(rate)
    assert stoi(estimate, reference, rate) == pytest.approx(pystoi(reference, estimate, rate), abs=1e-6)
    assert estoi(estimate, reference, rate) == pytest.approx(pystoi(reference, estimate, rate, True), abs=1e-6)
    assert 0.5 < stoi(estimate, reference, rate) < 0.95
    assert stoi(reference, reference, rate) == pytest.approx(1, abs=1e-6)


def test_stoi_of_too_little_speech_is_none():
    """pystoi warns and returns 1e-5, which a mean would take for a score; of less than a frame it has an error."""
    estimate, reference = noisy(8000)
    for length in (1, 100, 900, 3000):
        assert math.isnan(stoi(estimate[:length], reference[:length], 8000))
        assert math.isnan(estoi(estimate[:length], reference[:length], 8000))
    mostly_silent = np.where(np.arange(16_000) < 2400, reference, 0)
    assert math.isnan(stoi(estimate, mostly_silent, 8000))
    assert stoi(estimate[:4800], reference[:4800], 8000) > 0.3


def test_estoi_is_the_same_each_time_and_leaves_numpys_generator_alone():
    """Where an estimate is silent, pystoi compares noise that it draws."""
    estimate, reference = noisy(8000)
    estimate[8000:] = 0
    np.random.seed(5)
    first = estoi(estimate, reference, 8000)
    drawn = np.random.random()
    assert estoi(estimate, reference, 8000) == first
    np.random.seed(5)
    assert np.random.random() == drawn


@pytest.mark.parametrize("rate", RATES)
def test_pesq_is_its_packages(rate):
    package = pytest.importorskip("pesq", reason="pesq isn't installed, which needs a C compiler")
    estimate, reference = noisy(rate)
    expected = package.pesq(rate, reference, estimate, {8000: "nb", 16_000: "wb"}[rate])
    assert pesq(estimate, reference, rate) == pytest.approx(expected, abs=1e-6) and 1 < expected < 4
    assert pesq(reference, reference, rate) == pytest.approx(
        {8000: 4.549, 16_000: 4.644}[rate], abs=2e-3
    )  # its largest


def test_pesq_that_the_package_refuses_is_none():
    """It crashes where there are more than 50 utterances: no signal is long enough for them."""
    pytest.importorskip("pesq", reason="pesq isn't installed, which needs a C compiler")
    estimate, reference = noisy(8000)
    assert math.isnan(pesq(estimate[:1900], reference[:1900], 8000))  # shorter than a quarter of a second
    assert math.isnan(pesq(estimate, np.eye(1, len(reference))[0].astype(np.float32), 8000))  # a click
    long = np.tile(np.concatenate([reference[:8000], np.zeros(8000, dtype=np.float32)]), 60)
    assert math.isnan(pesq(long, long, 8000))


def fake_pesq(monkeypatch, score):
    module = ModuleType("pesq")
    module.PesqError = type("PesqError", (RuntimeError,), {})
    module.pesq = lambda rate, reference, estimate, mode: score(module, rate, reference, estimate, mode)
    monkeypatch.setitem(sys.modules, "pesq", module)


def test_pesq_is_asked_for_by_rate(monkeypatch):
    """By a stand-in for the package, so that it is tested where that isn't installed."""

    def score(module, rate, reference, estimate, mode):
        if not reference[0]:
            raise module.PesqError("no utterances")
        return {"nb": 1.0, "wb": 2.0}[mode] + reference[0] - estimate[0]

    fake_pesq(monkeypatch, score)
    signals = np.full(100, 0.5), np.full(100, 0.75)
    assert pesq(*signals, 8000) == 1.25 and pesq(*signals, 16_000) == 2.25
    assert math.isnan(pesq(signals[0], 0 * signals[1], 8000))
    assert math.isnan(pesq(np.ones(160_001), np.ones(160_001), 8000)) and pesq(np.ones(160_000), np.ones(160_000), 8000)


def test_a_source_has_both_scores_or_none(monkeypatch):
    monkeypatch.setitem(perceptual.PERCEPTUAL, "stoi", lambda estimate, reference, rate: estimate[0] / reference[0])
    estimates, references = np.array([[1.0], [np.nan], [0.0], [3.0]]), np.array([[2.0], [2.0], [2.0], [0.0]])
    found = perceptual_scores(("stoi",), estimates, np.array([4.0]), references, 8000)
    assert list(found) == ["input_stoi", "stoi"]
    np.testing.assert_array_equal(found["stoi"], [0.5, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found["input_stoi"], [2.0, np.nan, np.nan, np.nan])


def test_what_cannot_be_computed_is_refused_at_once(monkeypatch):
    check_perceptual(("stoi", "estoi"), 44_100)
    with pytest.raises(
        InputError, match="pesq=true: PESQ is defined at 8000 and 16000 Hz, not at data.sample_rate=44100"
    ):
        check_perceptual(("pesq",), 44_100)
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install pesq .*C compiler"):
        check_perceptual(("pesq",), 8000)
    with pytest.raises(InputError, match="pip install pystoi"):
        check_perceptual(("stoi",), 8000)
    check_perceptual((), 44_100)
    settings = EvaluationSettings("torch", False, True, 1, 0, False, stoi=True, pesq=True)
    assert settings.optional_columns == ("bss_eval_sdr", "stoi", "estoi", "pesq")  # what a finished run may lack
    with pytest.raises(InputError, match="stoi=yes: expected true or false"):
        EvaluationSettings("torch", False, False, 1, 0, False, stoi="yes")


def test_a_mixture_too_short_for_stoi_is_in_no_mean_counted_and_named(tmp_path, caplog):
    long = {f"long {i}": pair(f"long {i}") for i in range(2)}
    expected, _ = scored(listed(tmp_path / "a", long), tmp_path / "a", stoi=True)
    short = {"short": [trees.speech(8000, f"short {i}", 0.3) for i in range(2)]}
    summary, _ = scored(listed(tmp_path / "b", {**long, **short}), tmp_path / "b", stoi=True)
    for name in ("stoi", "input_stoi", "estoi", "input_estoi"):
        assert summary[name] == pytest.approx(expected[name], abs=1e-9) and 0 < summary[name] < 1
        assert summary["statistics"][name]["num_mixtures"] == 2
    assert summary["num_mixtures"] == 3 and summary["statistics"]["si_sdr"]["num_mixtures"] == 3
    [warning] = [record.getMessage() for record in caplog.records if "mixtures" in record.getMessage()]
    assert warning == "test: 1 of 3 mixtures without stoi: short: less than 0.4 s of speech"
    [line] = [line for line in score_table(summary["splits"]).splitlines() if line.startswith("model's STOI")]
    assert line.endswith("(2 mixtures)")
    json.loads((tmp_path / "b/out/summary.json").read_text(), parse_constant=pytest.fail)
