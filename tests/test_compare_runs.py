"""Two runs mixture by mixture, and runs' scores as a table, on scores that are known."""

import csv
import json
import sys

import numpy as np
import pytest
import scipy.stats
from test_results import scores

from separation.errors import InputError
from separation.studies.__main__ import main
from separation.studies.compare import Comparison, load_scores
from separation.studies.figures import comparison_figure
from separation.studies.intervals import bootstrap
from separation.studies.run_scores import RunScores

SEXES = {"ann": "F", "bob": "M", "cat": "F"}


def write_run(folder, mixtures: dict[str, tuple[object, object]], speakers=("ann", "bob"), **changed: object):
    """A run's scores.csv, two rows a mixture, and its summary."""
    folder.mkdir(exist_ok=True)
    rows = [
        {
            **{"split": "test", "mixture": name, "source": source, "utterance": f"{speakers[source]}/{name}"},
            **{"speaker": speakers[source], "num_samples": 8000, "input_si_sdr": 0.5, "si_sdr": value, **changed},
        }
        for name, values in mixtures.items()
        for source, value in enumerate(values)
    ]
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    known = {name: {"sex": sex} for name, sex in SEXES.items()}
    means = {"si_sdr": 1.0, "si_sdr_improvement": 1.0, "num_mixtures": 1, "speakers": known}
    (folder / "summary.json").write_text(json.dumps({"splits": {"test": means}}))
    return folder


def pair_of_runs(tmp_path, differences, **changed: object) -> tuple:
    """A's mixtures score 0, 1, 2, ... and B's as much more as is said."""
    first = {f"m{i}": (i - 1.0, i + 1.0) for i in range(len(differences))}
    second = {f"m{i}": (i + 0.5 + d, i - 0.5 + d) for i, d in enumerate(differences)}
    return write_run(tmp_path / "a", first), write_run(tmp_path / "b", second, **changed)


def test_differences_are_of_the_same_mixture(tmp_path):
    study = Comparison(pair_of_runs(tmp_path, [1.0, 2.0, 3.0, 4.0, -10.0]))
    np.testing.assert_allclose(study.scores["b"] - study.scores["a"], [1, 2, 3, 4, -10])
    [table] = study.report().tables.values()
    # Signed ranks 1 + 2 + 3 + 4 against 5: of the 32 ways to sign them, 10 to either side have as small a sum or less.
    expected = {"A": "2.00", "B": "2.00", "B - A": "0.00", "B better": "4", "B worse": "1", "p": "0.62"}
    assert table.loc["all (5)"].to_dict() == table.loc["FM (5)"].to_dict() == expected
    same = Comparison((tmp_path / "a", tmp_path / "a")).report().tables["test"]
    assert same.loc["all (5)", ["B - A", "p"]].tolist() == ["0.00", "1"]


def test_an_interval_is_by_bootstrap_and_says_what_it_leaves_out(tmp_path):
    differences = np.random.default_rng(0).normal(0.5, 2.0, 300)
    study = Comparison(pair_of_runs(tmp_path, differences))
    differences = (study.scores["b"] - study.scores["a"]).to_numpy()
    interval = bootstrap(differences)
    width = scipy.stats.t.ppf(0.975, 299) * scipy.stats.sem(differences)
    assert interval.value == pytest.approx(differences.mean())
    assert interval.low == pytest.approx(differences.mean() - width, abs=0.02)
    assert interval.high == pytest.approx(differences.mean() + width, abs=0.02)
    text = str(study.report())
    assert interval.text(2) in text and "doesn't contain the chance of training" in text


def test_the_interval_covers_a_planted_difference():
    """In some 95 of 100 simulations, for differences as skewed as scores' are."""
    random = np.random.default_rng(1)
    intervals = [bootstrap(0.3 + random.gamma(4.0, 0.5, 100) - 2.0) for _ in range(100)]
    assert 91 <= sum(low <= 0.3 <= high for _, low, high in intervals) <= 99
    assert sum(low <= 0 <= high for _, low, high in intervals) < 40  # there is something to see


def test_only_the_same_mixtures_are_compared(tmp_path):
    first, second = pair_of_runs(tmp_path, [1.0] * 3, utterance="other")
    with pytest.raises(InputError, match=r"3 mixtures of the same name are of other utterances \(m0, m1, m2\)"):
        Comparison((first, second))
    with pytest.raises(InputError, match="are of other levels, or scored otherwise"):
        Comparison(pair_of_runs(tmp_path, [1.0] * 3, input_si_sdr=0.6))
    Comparison(pair_of_runs(tmp_path, [1.0] * 3, input_si_sdr=0.501))
    with pytest.raises(InputError, match="no mixture in common"):
        Comparison(pair_of_runs(tmp_path, [1.0] * 3, split="test_unknown"))
    first, _ = pair_of_runs(tmp_path, [1.0] * 4)
    fewer = write_run(tmp_path / "c", {"m0": (1.0, 1.0), "m2": (1.0, "nan"), "m3": (2.0, ""), "more": (1.0, 1.0)})
    study = Comparison((first, fewer))
    assert study.scores["mixture"].tolist() == ["m0"] and sorted(study.only_in_one) == ["m1", "more"]
    assert study.without_score == ["m2", "m3"]
    notes = study.report().notes
    assert "LEFT OUT: 2 mixtures in one run only: m1, more" in notes
    assert "LEFT OUT: 2 mixtures without a score in one: m2, m3" in notes


def test_pairs_of_sexes_are_those_of_the_summary(tmp_path):
    first, second = pair_of_runs(tmp_path, [1.0, 2.0])
    assert load_scores(first, "si_sdr")["pair"].tolist() == ["FM", "FM"]
    for run in (first, second):
        write_run(run, {"m0": (1.0, 1.0)}, ("ann", "cat"))
    assert load_scores(first, "si_sdr")["pair"].tolist() == ["FF"]
    write_run(first, {"m0": (1.0, 1.0)}, ("ann", "nobody knows"))
    assert load_scores(first, "si_sdr")["pair"].tolist() == [""]
    (first / "summary.json").write_text('{"splits": {"test": {"speakers": 3}}}')
    assert load_scores(first, "si_sdr")["pair"].tolist() == [""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("split,mixture\ntest,a\n", "scores.csv: has no column input_si_sdr, num_samples, si_sdr, source"),
        ("", "scores.csv: can't be read"),
        ('"', "scores.csv: can't be read"),
        ("\xff\xfe", "scores.csv: can't be read|has no column"),
    ],
)
def test_damaged_scores_get_a_sentence(tmp_path, text, expected):
    first, second = pair_of_runs(tmp_path, [1.0])
    (second / "scores.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=expected):
        Comparison((first, second))
    for changed in ({"si_sdr": "loud"}, {"source": 0}):
        with pytest.raises(InputError, match="can't be read|a source twice"):
            Comparison(pair_of_runs(tmp_path, [1.0], **changed))
    with pytest.raises(InputError, match="nothing/scores.csv: can't be read"):
        Comparison((first, tmp_path / "nothing"))
    with pytest.raises(InputError, match="no column stoi; python evaluate.py run=.*a stoi=true adds one"):
        Comparison((first, second), "stoi")
    with pytest.raises(InputError, match="--metric loss: expected one of si_sdr"):
        Comparison((first, second), "loss")


def test_the_figure_has_a_point_a_mixture_and_equal_axes(tmp_path):
    runs = pair_of_runs(tmp_path, [1.0, -2.0, 0.5])
    summary = json.loads((runs[1] / "summary.json").read_text())
    (runs[1] / "summary.json").write_text(json.dumps({**summary, "estimator": "ideal_binary"}))
    [axis] = comparison_figure(Comparison(runs)).axes
    diagonal, points = axis.lines
    np.testing.assert_allclose(points.get_xydata(), [[0, 1], [1, -1], [2, 2.5]])
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert axis.get_xlim() == axis.get_ylim() and axis.get_aspect() == 1.0
    assert axis.get_xlabel() == "SI-SDR [dB] of A: a"
    assert axis.get_ylabel() == "SI-SDR [dB] of B: b (oracle: ideal binary mask)"
    assert axis.get_title() == "test: 3 mixtures"


def run_studies(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["studies", *map(str, arguments)])
    main()


def test_compare_from_the_command_line(tmp_path, monkeypatch, capsys):
    runs = pair_of_runs(tmp_path, [1.0, -2.0, 0.5])
    run_studies(monkeypatch, "compare", *runs, "--output", tmp_path / "x.png")
    run_studies(monkeypatch, "compare", *runs, "--output", tmp_path / "x.csv")
    assert (tmp_path / "x.png").stat().st_size > 10_000 and "all (3)" in capsys.readouterr().out
    assert (tmp_path / "x.csv").read_text().splitlines()[:2] == [
        "test,A,B,B - A,B better,B worse,p",
        "all (3),1.00,0.83,-0.17,2,1,1",
    ]
    with pytest.raises(InputError, match=r"--output x.doc: expected a new file with suffix .png"):
        run_studies(monkeypatch, "compare", *runs, "--output", "x.doc")


def test_a_table_of_runs(tmp_path, monkeypatch, capsys):
    for name, value in {"clip=none,seed=1": 7.0, "clip=autoclip,seed=1": 8.0, "clip=fixed,seed=1": None}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").touch()
        if value:
            split = {**scores(value)["splits"]["test"], "stoi": value / 10}
            split["statistics"] = {"si_sdr_improvement": {"median": value + 1, "percentile_5": value - 3}}
            (tmp_path / "runs" / name / "summary.json").write_text(json.dumps({"splits": {"test": split}}))
    write_run(tmp_path / "runs/ideal_binary", {"m0": (1.0, 1.0)})  # an oracle's: no run
    [table] = RunScores([tmp_path / "runs"]).report().tables.values()
    columns = ["SI-SDR [dB]", "improvement [dB]", "median", "5th percentile", "STOI", "mixtures"]
    assert list(table) == columns and table.index.tolist() == ["clip=autoclip", "clip=none"]
    assert table.loc["clip=autoclip"].tolist() == ["8.00", "8.00", "9.00", "5.00", "0.80", "3"]
    run_studies(monkeypatch, "table", tmp_path / "runs", "--output", tmp_path / "t.tex")
    assert "NO SCORES: clip=fixed" in capsys.readouterr().out
    assert r"clip=none & 7.00 & 7.00 & 8.00 & 4.00 & 0.70 & 3 \\" in (tmp_path / "t.tex").read_text()
    with pytest.raises(InputError, match=r"t.png: expected a new file with suffix .txt, .csv, .md, .tex"):
        run_studies(monkeypatch, "table", tmp_path / "runs", "--output", "t.png")
    with pytest.raises(InputError, match="clip=fixed,seed=1: no run has scores"):
        RunScores([tmp_path / "runs/clip=fixed,seed=1"]).report()
