import json

from separation.results import find_runs, runs_table, score_table, table


def scores(value: float) -> dict:
    oracle = {"ideal_binary": 12.0, "ideal_ratio": 11.0, "phase_sensitive": 13.0}
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
    assert rows[3:] == ["ideal binary mask", "ideal ratio mask", "phase-sensitive mask"]
