"""Mixtures of which nothing can be measured: their scores are NaN, in no mean, counted and named."""

import json
import math
import re

import numpy as np
import pytest
import torch
import trees

from separation.app.assembly import build
from separation.app.evaluate import score_oracle
from separation.app.settings import compose_config
from separation.data.check.findings import findings
from separation.data.check.measure import inspect
from separation.errors import InputError
from separation.evaluation.evaluator import EvaluationSettings, Evaluator
from separation.model.features import Stft
from separation.runs.summaries import score_table

RATE = 8000
RANDOM = np.random.default_rng(0)


def late(seconds: float, noise: float) -> np.ndarray:
    """Speech that begins after so much noise of so low a level (RMS)."""
    return np.concatenate([noise * RANDOM.standard_normal(round(seconds * RATE)), trees.speech(RATE, "late", 2.0)])


def pair(name: str) -> list[np.ndarray]:
    return [trees.speech(RATE, f"{name} {i}", 1.0) for i in (1, 2)]


BAD = {
    "digital silence": ([trees.speech(RATE, "two", 1.0), late(1.0, 0)], "source 2 is silent"),
    "room noise": ([trees.speech(RATE, "three", 1.0), late(5.0, 1e-4)], "source 2 is silent"),
    "louder room noise": ([late(5.0, 1.5e-3), trees.speech(RATE, "four", 1.0)], "source 1 is silent"),
    "a click in room noise": (
        [trees.speech(RATE, "nine", 1.0), late(5.0, 1e-4) + 0.3 * np.eye(1, 7 * RATE, 100)[0]],
        "source 2 is silent",
    ),
    "noise alone": ([trees.speech(RATE, "eight", 1.0), 1e-4 * RANDOM.standard_normal(RATE)], "source 2 is inaudible"),
    "an offset alone": ([trees.speech(RATE, "eleven", 1.0), np.full(RATE, 0.1)], "source 2 is silent"),
    "one file twice": ([trees.speech(RATE, "five", 1.0)] * 2, "are one signal .correlation 1.00."),
    "twice, upside down": (
        [trees.speech(RATE, "six", 1.0), -0.3 * trees.speech(RATE, "six", 1.2)],
        "correlation -1.00",
    ),
    "twice, 90 ms late": ([trees.speech(RATE, "ten", 1.0), np.roll(trees.speech(RATE, "ten", 1.0), 720)], "one signal"),
    "twice, with noise": (
        [trees.speech(RATE, "seven", 1.0), trees.speech(RATE, "seven", 1.0) + 0.02 * RANDOM.standard_normal(RATE)],
        "are one signal",
    ),
}
"""Ten: as many are named."""


def listed(root, mixtures: dict[str, list[np.ndarray]]) -> list[str]:
    """A corpus whose test list has these mixtures."""
    overrides = trees.tables(root)
    rows = []
    for name, sources in mixtures.items():
        row = {"mixture_ID": name}
        for i, samples in enumerate(sources, start=1):
            trees.write(root / "test" / f"{name} {i}.wav", samples, RATE, subtype="FLOAT")
            row |= {f"source_{i}_path": f"test/{name} {i}.wav", f"source_{i}_speaker": f"{name} {i}"}
        rows.append(row)
    trees.write_table(root / "test.csv", rows)
    return [*overrides, "data.num_test=null"]


def scored(overrides: list[str], tmp_path, **changed: object):
    settings = {"metrics": "torch", "zero_mean": False, "bss_eval": True, "batch_size": 3, "num_audio": 0}
    config = compose_config("config", overrides)
    data = trees.make_data(overrides, tmp_path)
    settings = EvaluationSettings(**{**settings, "progress": False, **changed})
    return score_oracle("ideal_ratio", config, data, settings, tmp_path / "out", "test"), data


@pytest.mark.parametrize("metrics", ["torch", "museval"])
def test_what_cannot_be_measured_is_in_no_mean_counted_and_named(tmp_path, caplog, metrics):
    good = {f"good {i}": pair(f"good {i}") for i in range(3)}
    expected, _ = scored(listed(tmp_path / "a", good), tmp_path / "a", metrics=metrics)
    everything = {**good, **{name: sources for name, (sources, _) in BAD.items()}}
    summary, data = scored(listed(tmp_path / "b", everything), tmp_path / "b", metrics=metrics)
    for name in ("si_sdr", "input_si_sdr", "si_sdr_improvement", "bss_eval_sdr"):
        assert summary[name] == pytest.approx(expected[name], abs=1e-9)
    assert (summary["num_mixtures"], summary["num_not_scored"]) == (3, len(BAD))
    assert score_table(summary["splits"]).split()[-5:] == ["mixtures", "3", "not", "scored", str(len(BAD))]
    [warning] = [r.getMessage() for r in caplog.records if "not scored" in r.getMessage()]
    found = findings(inspect(data.corpus, data.train.store, data.lists, data.tests))
    [sentence] = [each.sentence for each in found if "can't be scored" in each.sentence and each.is_wrong]
    for name, (_, reason) in BAD.items():
        for text in (warning, sentence):
            assert re.search(f"{name}: [^;]*{reason}", text), name
    assert all(f"{name}:" not in warning for name in good)


def test_a_silent_source_leaves_the_other_its_scores(tmp_path):
    mixtures = {"good": pair("good"), "half": BAD["digital silence"][0]}
    scored(listed(tmp_path, mixtures), tmp_path)
    lines = [line.split(",") for line in (tmp_path / "out/scores.csv").read_text().splitlines()]
    column = lines[0].index("si_sdr")
    values = {(line[1], line[2]): float(line[column]) for line in lines[1:]}
    assert math.isnan(values["half", "1"]) and values["half", "0"] == 100
    json.loads((tmp_path / "out/summary.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON


def test_a_silent_estimate_is_not_scored(tmp_path, caplog):
    data = trees.make_data(listed(tmp_path, {"a": pair("a"), "b": pair("b")}), tmp_path)

    def silences_b(batch):
        heard = torch.tensor([[float(name != "b"), 1.0] for name in batch.names])
        return batch.sources * heard.unsqueeze(-1)

    settings = EvaluationSettings("torch", False, False, 2, 0, False)
    rows = Evaluator(silences_b, Stft(256, 64), settings).evaluate(data.tests[0])
    assert [math.isnan(row["si_sdr"]) for row in rows] == [False, False, True, False]
    assert "b: the estimate of source 1 is silent" in caplog.text


def test_a_split_without_a_mixture_that_can_be_scored_is_refused(tmp_path):
    overrides = listed(tmp_path, {"same": BAD["one file twice"][0]})
    with pytest.raises(InputError, match="none of the 1 mixtures of the test split can be scored"):
        scored(overrides, tmp_path)


def test_one_sample_is_not_scored(tmp_path, caplog):
    """A piece of a long file may be that short."""
    data = trees.make_data(listed(tmp_path, {"a": pair("a"), "b": pair("b")}), tmp_path)
    mixtures = data.tests[0]
    [first, second] = mixtures._rows
    mixtures._rows = [first._replace(span=(0.0, 1 / RATE)), second]
    mixtures._by_name = {row.name: row for row in mixtures._rows}
    settings = EvaluationSettings("museval", False, True, 2, 0, False)
    rows = Evaluator(lambda batch: batch.sources, Stft(256, 64), settings).evaluate(mixtures)
    assert [math.isnan(row["si_sdr"]) for row in rows] == [True, True, False, False]
    assert "a: the mixture is shorter than 0.1 s" in caplog.text


def test_means_are_removed_only_where_it_is_asked_for(tmp_path):
    """asteroid's SI-SDR removes them; museval's and ours don't."""
    mixtures = {"a": [samples + 0.3 for samples in pair("a")]}
    overrides = listed(tmp_path, mixtures)
    with_means, _ = scored(overrides, tmp_path)
    without, _ = scored(overrides, tmp_path, zero_mean=True)
    clean = {"a": [samples - samples.mean() for samples in mixtures["a"]]}
    expected, _ = scored(listed(tmp_path / "clean", clean), tmp_path / "clean")
    assert without["input_si_sdr"] == pytest.approx(expected["input_si_sdr"], abs=1e-3)
    assert with_means["input_si_sdr"] > without["input_si_sdr"] + 3
    assert build(compose_config("config", []), "evaluation").zero_mean is False
