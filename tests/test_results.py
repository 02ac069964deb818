import csv
import json

import pytest
from conftest import STUDIES, call_program

from separation.runs.summaries import find_runs, runs_table, score_table, table


def scores(value: float) -> dict:
    oracle = {"ideal_binary": 12.0, "ideal_ratio": 11.0, "wiener_like": 12.5, "phase_sensitive": 13.0}
    means = {"num_mixtures": 3, "input_si_sdr": 0.0, "si_sdr": value, "si_sdr_improvement": value, "oracle": oracle}
    return {**means, "splits": {"test": means}}


def test_tables_line_up():
    assert table(["a", "bb"], [["long", "1"], ["x", "22"]]).split("\n") == [
        "a     bb",
        "--------",
        "long   1",
        "x     22",
    ]


def test_runs_are_named_by_what_differs(tmp_path):
    for name, value in {"clip=autoclip,seed=1": 8.125, "clip=none,seed=1": None}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        text = json.dumps(scores(value)) if value else '{"cut short'
        (tmp_path / name / "summary.json").write_text(text)
    rows = runs_table(find_runs(tmp_path), tmp_path).split("\n")[2:]
    assert [row.split() for row in rows] == [["clip=autoclip", "8.12", "done"], ["clip=none", "-", "unfinished"]]


def test_score_table_has_the_mixture_the_model_and_the_oracles():
    rows = [row.split("  ")[0] for row in score_table({"test": scores(5.0)}).split("\n")[2:]]
    assert rows[:3] == ["mixture", "model", "model's improvement"]
    assert rows[3:7] == ["ideal binary mask", "ideal ratio mask", "Wiener-like mask", "phase-sensitive mask"]


@pytest.mark.parametrize("value", ["loud", [1.0], {"a": 1}, None, 10**400, float("inf"), float("nan")])
def test_what_is_no_score_shows_as_a_dash(value):
    summary = {**scores(5.0), "stoi": value, "statistics": {"si_sdr_improvement": value}, "pairs": {"FF": value}}
    rows = {line[:20].strip(): line.split()[-1] for line in score_table({"test": summary}).split("\n")[2:]}
    assert rows["median"] == rows["FF"] == "-" and rows["model's improvement"] == "5.00"
    assert rows["model's STOI"] == "-"


def test_results_are_collected_once(make_run, tmp_path):
    runs, output = [make_run(), make_run("model=whitened_kmeans", "clip=none")], tmp_path / "results.csv"
    for new in (2, 0):
        result = call_program(*STUDIES, "collect", *runs, output, cwd=tmp_path)
        assert result.returncode == 0 and f"{new} new, {2 - new} kept, 0 unfinished" in result.stdout, result.stderr
    with open(output, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["clip"], row["clip.p"], row["steps"]) for row in rows] == [
        ("mask_inference", "autoclip", "10", "3"),
        ("whitened_kmeans", "none", "", "3"),
    ]
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert float(rows[0]["si_sdr"]) == pytest.approx(summary["si_sdr"], abs=1e-4)
    assert "/" not in rows[0]["command"].replace("hydra/", "")
    result = call_program(*STUDIES, "collect", tmp_path, output, cwd=tmp_path)
    assert result.returncode == 1 and "holds no runs" in result.stderr
