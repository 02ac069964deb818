"""What is said of a split's scores, and which mixtures become audio: by hand."""

import json
import math

import numpy as np
import pytest
import torch
from test_unscored import listed, pair, scored

from separation.app.evaluate import check_no_run
from separation.data.corpora.demo import DemoCorpus
from separation.data.corpora.librimix import LibriMixCorpus
from separation.data.corpora.librispeech import LibriSpeechCorpus
from separation.data.corpora.vctk import VctkCorpus
from separation.errors import InputError
from separation.evaluation.audio_examples import choose_examples, remove_audio, write_audio
from separation.evaluation.oracles import ORACLES
from separation.evaluation.summary import summarize
from separation.runs.summaries import ORACLE_TITLES, score_table

COUNTS = {"num_train": 1, "num_valid": 1, "num_test": 1}


def rows(improvements: dict[str, tuple[float, float]], speakers=("ann", "bob"), split: str = "test") -> list[dict]:
    """Two rows a mixture, of some improvement at an input SI-SDR of 1 dB."""
    oracle = dict.fromkeys((f"oracle_{name}" for name in ORACLES), 12.0)
    return [
        {
            **{"split": split, "mixture": name, "source": source, "speaker": speakers[source], "input_si_sdr": 1.0},
            **{"si_sdr": 1 + value, "si_sdr_improvement": value, **oracle},
        }
        for name, values in improvements.items()
        for source, value in enumerate(values)
    ]


def test_statistics_are_over_mixtures():
    """Mixtures of mean improvement 1, 2, 3, 4 and 10, whatever their sources'; and one without a score."""
    values = {"a": (0.0, 2.0), "b": (2.0, 2.0), "c": (3.0, 3.0), "d": (8.0, 0.0), "e": (10.0, 10.0)}
    summary = summarize(rows({**values, "f": (math.nan, 5.0)}))
    assert summary["si_sdr_improvement"] == 4 and summary["si_sdr"] == 5
    found = summary["statistics"]["si_sdr_improvement"]
    assert found["num_mixtures"] == 5 and found["median"] == 3
    assert found["std"] == pytest.approx(math.sqrt((9 + 4 + 1 + 0 + 36) / 4))
    assert found["percentile_5"] == pytest.approx(1.2)  # a fifth of the way from the first to the second
    assert summary["statistics"]["si_sdr"]["percentile_5"] == pytest.approx(2.2)
    assert set(summary["statistics"]) == {"input_si_sdr", "si_sdr", "si_sdr_improvement"}
    assert summarize(rows({"a": (1.0, 2.0)}))["statistics"]["si_sdr"]["std"] is None


def test_speakers_and_pairs_of_sexes_where_known():
    of_two = rows({"a": (1.0, 3.0), "b": (2.0, 6.0)})
    others = rows({"c": (5.0, 7.0)}, ("ann", "cat")) + rows({"d": (0.0, 0.0)}, ("ann", "nobody knows"))
    summary = summarize(of_two + others, sexes={"ann": "F", "bob": "M", "cat": "F"})
    assert summary["pairs"] == {
        "FF": {"num_sources": 2, "si_sdr": 7.0, "si_sdr_improvement": 6.0},
        "FM": {"num_sources": 4, "si_sdr": 4.0, "si_sdr_improvement": 3.0},
    }
    assert summary["speakers"]["ann"] == {"sex": "F", "num_sources": 4, "si_sdr": 3.0, "si_sdr_improvement": 2.0}
    assert summary["speakers"]["nobody knows"]["sex"] is None
    assert summarize(of_two)["pairs"] == {}


def test_the_table_is_for_a_terminal():
    """With all that it can hold."""
    optional = dict.fromkeys((f"bss_eval_{name}" for name in ("sdr", "sir", "sar")), 10.0)
    optional |= dict.fromkeys((f"{kind}{name}" for kind in ("input_", "") for name in ("stoi", "estoi", "pesq")), 0.5)
    many = {f"m{i}": (-12.5, -11.0) for i in range(3000)}
    sexes = {"ann": "F", "bob": "M"}
    both = [{**row, **optional} for row in rows({**many, "bad": (math.nan, 1.0)})]
    splits = {split: summarize(both, trained_on, sexes) for split, trained_on in (("test", "ab"), ("test_unknown", ""))}
    splits["test"]["num_known_speakers"] = 1
    for estimator in ("model", *ORACLE_TITLES, "mixture"):
        text = score_table(splits, estimator)
        assert max(map(len, text.splitlines())) <= 80
        assert ("model" in text) == (estimator == "model")
    lines = {line.split("  ")[0]: line.split()[-2:] for line in text.splitlines() if not line.startswith(" ")}
    assert lines["oracle: mixture"] == ["-10.75", "-10.75"] and lines["not scored"] == ["1", "1"]
    assert lines["speakers"] == ["known", "unknown"] and lines["oracle's PESQ [MOS-LQO]"] == ["0.50", "0.50"]
    assert [line.split()[0] for line in text.splitlines() if line.startswith(" ")] == [
        "median",
        "5th",
        "standard",
        "FM",
    ]


def test_corpora_that_know_their_speakers_sexes(tmp_path):
    demo = DemoCorpus(**COUNTS).sexes()
    assert (demo["voice00"], demo["voice01"], demo["unknown00"], demo["unknown07"]) == ("M", "F", "M", "F")
    assert len(demo) == 16
    corpus = LibriSpeechCorpus(root=str(tmp_path), **COUNTS)
    assert corpus.sexes() == {}
    lines = ";ID  |SEX| SUBSET |MINUTES| NAME\n14   | F | train-clean-360  | 25.03 | Kristin LeMoine\n"
    (tmp_path / "SPEAKERS.TXT").write_bytes(
        lines.encode() + b"1272 | M | dev-clean | 8.0 | Andr\xe9 | F |\nnonsense |\n"
    )
    assert corpus.sexes() == {"14": "F", "1272": "M"}
    mixed = LibriMixCorpus(root=str(tmp_path), metadata=None, num_sources=2, mode="min", noise=False, **COUNTS)
    assert mixed.sexes() == corpus.sexes()
    (tmp_path / "wav48_silence_trimmed").mkdir()
    lines = "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern  England\n"
    (tmp_path / "speaker-info.txt").write_text(lines + "p226  22  M    English    Surrey\ns5  F  British\n")
    assert VctkCorpus(root=str(tmp_path), valid_share=0.1, test_share=0.1, **COUNTS).sexes() == {
        **{"p225": "F", "p226": "M"},
        "s5": "F",
    }


def test_examples_are_the_best_the_median_and_the_worst():
    values = {name: (value, value + 2) for name, value in zip("abcde", (4.0, 0.0, 9.0, 2.0, 7.0), strict=True)}
    of_split = rows({**values, "f": (math.nan, 90.0)})

    def chosen(count: int) -> list[tuple[str, str]]:
        return [(example.which, example.mixture) for example in choose_examples(of_split, count)]

    assert chosen(3) == [("best", "c"), ("median", "a"), ("worst", "b")]
    assert chosen(1) == [("median", "a")] and chosen(0) == []
    assert chosen(2) == [("best", "c"), ("worst", "b")]
    spread = [("best", "c"), ("percentile_75", "e"), ("median", "a"), ("percentile_25", "d"), ("worst", "b")]
    assert chosen(5) == spread and chosen(100) == spread
    best = choose_examples(of_split, 3)[0]
    assert best.number == 2 and best.si_sdr_improvement == 10 and best.folder == "test/best_c"


def test_audio_is_that_of_the_scored_mixtures_and_replaces_older(tmp_path):
    mixtures = {f"m{i}": [samples * (1 + i) ** s for s, samples in enumerate(pair(f"m{i}"))] for i in range(4)}
    overrides = listed(tmp_path, mixtures)
    summary, _ = scored(overrides, tmp_path, num_audio=3)
    folder = tmp_path / "out"
    improvements = {
        name: np.mean([row["si_sdr_improvement"] for row in table_rows(folder) if row["mixture"] == name])
        for name in mixtures
    }
    ranked = sorted(mixtures, key=lambda name: -improvements[name])
    told = [(example["which"], example["mixture"], example["folder"]) for example in summary["audio"]]
    expected = zip(("best", "median", "worst"), (ranked[0], told[1][1], ranked[-1]), strict=True)
    assert told == [(which, name, f"audio/test/{which}_{name}") for which, name in expected]
    assert told[1][1] in ranked[1:3]
    for example in summary["audio"]:
        assert example["si_sdr_improvement"] == pytest.approx(improvements[example["mixture"]])
        names = sorted(path.name for path in (folder / example["folder"]).iterdir())
        assert names == [f"{kind}_{i}.wav" for kind in ("estimate",) for i in (1, 2)] + ["mixture.wav"] + [
            f"reference_{i}.wav" for i in (1, 2)
        ]
    (folder / "audio/notes.txt").write_text("mine")
    scored(overrides, tmp_path, num_audio=1)
    assert [path.name[:7] for path in (folder / "audio/test").iterdir()] == ["median_"]
    assert (folder / "audio/notes.txt").read_text() == "mine"


def table_rows(folder) -> list[dict]:
    lines = [line.split(",") for line in (folder / "scores.csv").read_text().splitlines()]
    return [
        {name: float(cell) if name == "si_sdr_improvement" else cell for name, cell in zip(lines[0], line, strict=True)}
        for line in lines[1:]
    ]


def test_only_what_a_scoring_wrote_is_removed(tmp_path):
    write_audio(tmp_path / "audio/test/best_a", {"mixture": torch.zeros(8), "estimate_2": torch.zeros(8)}, 8000)
    write_audio(tmp_path / "audio/old", {"reference_1": torch.zeros(8)}, 8000)
    write_audio(tmp_path / "elsewhere", {"mixture": torch.zeros(8)}, 8000)
    (tmp_path / "audio/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "audio/old/mixture.flac").touch()
    remove_audio(tmp_path / "audio")
    left = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()
    }
    assert left == {"audio/old/mixture.flac", "audio/linked", "elsewhere/mixture.wav"}
    with pytest.raises(InputError, match="is a link"):
        remove_audio(tmp_path / "audio/linked")


def test_an_oracles_scores_bear_its_name(tmp_path):
    summary, _ = scored(listed(tmp_path, {"a": pair("a")}), tmp_path)
    assert summary["estimator"] == "ideal_ratio"
    assert json.loads((tmp_path / "out/summary.json").read_text())["estimator"] == "ideal_ratio"
    assert [row["estimator"] for row in table_rows(tmp_path / "out")] == ["ideal_ratio"] * 2
    check_no_run(tmp_path / "out")
    (tmp_path / "out/config.yaml").touch()
    with pytest.raises(InputError, match=r"out: holds a run, whose scores would be replaced; give another folder"):
        check_no_run(tmp_path / "out")
