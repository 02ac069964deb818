"""Clipping strategies side by side: what the tables say of known scores."""

import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import BLANK_RUN, STUDIES, call_program

from separation.errors import InputError
from separation.studies.comparing import differences, name_strategies
from separation.studies.conditions import Conditions
from separation.studies.curves import load_curves
from separation.studies.figures import conditions_figure, curves_figure, strategies_figure, table1_figure
from separation.studies.run_table import collect_runs, load_runs, read_log, read_table, write_table
from separation.studies.scales import Scales
from separation.studies.strategies import Strategies
from separation.studies.table1 import MODELS, PAPER, Table1
from separation.studies.table_formats import Report

Row = dict[str, Any]
AUTOCLIP = {"clip.p": 10.0}
WINDOWED = {"clip.p": 10.0, "clip.window": 100.0}


def row(clip: str, seed: int, si_sdr: float, settings: Row | None = None, **changes: Any) -> Row:
    """A run of the waveform model; settings have dots in their names."""
    common = BLANK_RUN | {"model": "waveform", "clip": clip, "seed": seed, "si_sdr": si_sdr}
    numbers = {"valid_loss": 1.0, "clipped_fraction": 0.5, "skipped_steps": 0.0, "step_seconds": 0.1}
    return common | numbers | {"command": f"{clip} {settings} {seed}"} | (settings or {}) | changes


def rows() -> list[Row]:
    """Three seeds that lie far apart, and strategies whose differences don't."""
    runs = []
    for seed, base in enumerate((1.0, 5.0, 9.0)):
        runs.append(row("none", seed, base, step_seconds=0.2))
        runs.append(row("autoclip", seed, base + 0.5, AUTOCLIP))
        runs.append(row("autoclip_windowed", seed, base + (0.2, 0.3, 0.4)[seed], WINDOWED))
        runs.append(row("zclip", seed, base - 1, {"clip.alpha": 0.97, "clip.tau": 2.5}, skipped_steps=seed))
        for norm, gain, loss in ((0.01, 0.9, 3), (0.1, 0.6, 2), (1.0, -2, 4)):
            runs.append(row("fixed", seed, base + gain, {"clip.max_norm": norm}, valid_loss=loss))
    return runs


def strategies(runs: list[Row], mixed: bool = False) -> Strategies:
    return Strategies(pd.DataFrame(runs), mixed)


def test_differences_are_taken_seed_by_seed():
    study = strategies(rows())
    assert study.strategies == ["none", "autoclip p=10", "autoclip_windowed", "zclip", "fixed"]
    assert study.scores.mean("waveform", "none").value == pytest.approx(5)
    assert study.scores.mean("waveform", "none").half_width == pytest.approx(4.302653 * 4 / 3**0.5, rel=1e-5)
    gain = study.gain("autoclip p=10", "waveform")
    assert gain.value == pytest.approx(0.5) and gain.half_width == pytest.approx(0, abs=1e-9)
    windowed = study.gain("autoclip_windowed", "waveform")
    assert windowed.value == pytest.approx(0.3)
    assert windowed.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert study.scores.column("skipped_steps", "waveform", "zclip") == 1


def chosen(study: Strategies) -> dict[tuple[str, str], float]:
    return {key: threshold for key, (_, threshold) in study.grids.items()}


def test_the_validation_loss_chooses_of_a_grid_not_the_score():
    study = strategies(rows())
    assert chosen(study) == {("waveform", "fixed"): 0.1}
    assert study.gain("fixed", "waveform").value == pytest.approx(0.6)
    text = " ".join(str(study.report()).split())
    assert "fixed max_norm=0.1 5.60 +- 9.94 0.60 +- 0.00 0.10 +- 0.00 50% 0 1 1 " in text
    assert "waveform, fixed by max_norm: 0.01: 5.90 +- 9.94; 0.1: 5.60 +- 9.94; 1: 3.00 +- 9.94" in text
    assert "(the lowest validation loss: 0.1)" in text


def test_an_incomplete_grid_chooses_by_the_seeds_that_all_values_have():
    def grid(*losses: tuple[float, int, float]) -> Strategies:
        return strategies(
            [row("fixed", seed, 1.0, {"clip.max_norm": norm}, valid_loss=loss) for norm, seed, loss in losses]
        )

    low, high = [(1.0, 0, -5.0), (1.0, 1, -4.0), (1.0, 2, -3.0)], (10.0, 0, -4.5)
    study = grid(*low, high)
    assert chosen(study) == {("waveform", "fixed"): 1.0}
    text = str(study.report())
    assert "1: 1.00 +- 0.00; 10: 1.00 (1 of 3) (the lowest validation loss: 1, the grid's edge)" in text
    assert chosen(grid(*low, high, (3.0, 3, -9.0))) == {("waveform", "fixed"): 1.0}  # no seed has all


def names(*clips: tuple[str, Row], tuned: bool = True) -> list[str]:
    runs = pd.DataFrame([row(clip, 0, 1.0, settings) for clip, settings in clips])
    return name_strategies(runs, tuned)["strategy"].tolist()


def test_names_say_what_sets_a_strategy_apart():
    assert names(("autoclip", WINDOWED)) == ["autoclip p=10 window=100"]
    assert names(("autoclip", AUTOCLIP), ("autoclip_windowed", WINDOWED)) == ["autoclip p=10", "autoclip_windowed"]
    assert names(
        ("zclip", {"clip.alpha": 0.97, "clip.tau": 2.5}), ("zclip", {"clip.alpha": 0.97, "clip.tau": 3.0})
    ) == [
        "zclip tau=2.5",
        "zclip tau=3",
    ]
    assert names(("fixed", {"clip.max_norm": 1.0}), tuned=False) == ["fixed max_norm=1"]

    def feedback(norm: float, error_norm: float) -> tuple[str, Row]:
        return "error_feedback", {"clip.max_norm": norm, "clip.max_error_norm": error_norm}

    same = [feedback(1.0, 1.0), feedback(3.0, 3.0)]  # as the recipes have it
    assert names(*same) == ["error_feedback", "error_feedback"]
    assert names(*(feedback(norm, 9.0) for norm in (1.0, 3.0, 9.0))) == ["error_feedback"] * 3
    assert names(*same, feedback(3.0, 9.0))[2] == "error_feedback max_error_norm=9"


def test_a_setting_that_is_a_list_tells_strategies_apart(make_run, tmp_path):
    """AGC with exclude=["a, b"], ["a", "b"] and "a, b": collected, written and read, they stay three."""
    run = shutil.copytree(make_run("clip=agc"), tmp_path / "run")
    tables = []
    for seed, exclude in enumerate((["network, x"], ["network", "x"], "network, x")):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["clip"]["exclude"], config["seed"] = exclude, seed
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        tables.append(collect_runs([run])[0])
        write_table(tmp_path / f"{seed}.csv", tables[-1])
    runs = load_runs([tmp_path / f"{seed}.csv" for seed in range(3)])
    assert runs["clip.exclude"].tolist() == ['["network, x"]', '["network", "x"]', "network, x"]
    assert name_strategies(runs)["strategy"].tolist() == [
        'agc exclude=["network, x"]',
        'agc exclude=["network", "x"]',
        "agc exclude=network, x",
    ]
    write_table(tmp_path / "all.csv", runs)
    pd.testing.assert_frame_equal(read_table(tmp_path / "all.csv"), runs[list(read_table(tmp_path / "all.csv"))])


def test_a_table_says_how_a_run_was_composed(make_run, tmp_path):
    """Choices and settings by the names that one types; runs of earlier versions don't keep their choices."""
    run = shutil.copytree(make_run("clip=autoclip_windowed", "clip.window=7"), tmp_path / "run")
    [cells] = collect_runs([run])[0].dropna(axis=1).to_dict("records")
    expected = {"data": "folder", "model": "mask_inference", "clip": "autoclip_windowed", "optimizer": "adam"}
    expected |= {"clip.window": 7, "clip.p": 10, "trainer.batch_size": 2, "model.hidden_size": 8, "optimizer.lr": 0.002}
    assert expected.items() <= cells.items()
    left_out = {"threads", "run_dir", "trainer.progress", "trainer.max_steps", "model.network.hidden_size", "overrides"}
    assert not left_out & cells.keys()
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["choices"], config["overrides"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    [older] = collect_runs([run])[0].dropna(axis=1).to_dict("records")
    assert older == cells | {"clip": "autoclip"}


def test_what_is_missing_or_differs_is_said():
    study = strategies([item for item in rows() if (item["clip"], item["seed"]) != ("none", 2)])
    assert study.gain("autoclip p=10", "waveform").num_values == 2
    assert "(2 of 3)" in str(study.report())
    assert "missing" in str(strategies([item for item in rows() if item["clip"] != "none"]).report())
    mixed = [*rows(), row("agc", 0, 1.0, commit="other")]
    with pytest.raises(InputError, match="commit: other, x.*--mixed"):
        strategies(mixed)
    assert "MIXED: runs differ in commit" in str(strategies(mixed, mixed=True).report())
    with pytest.raises(InputError, match="two runs of model waveform, strategy none, seed 0"):
        strategies([*rows(), row("none", 0, 2.0)])
    with pytest.raises(InputError, match="two runs of model waveform, strategy fixed, max_norm 1, seed 2"):
        strategies([*rows(), row("fixed", 2, 2.0, {"clip.max_norm": 1.0})])
    with pytest.raises(InputError, match="no finished runs"):
        Strategies(pd.DataFrame(columns=list(BLANK_RUN)))


def test_any_setting_counts_but_those_of_another_model():
    """A setting that no list names, and one that only other models have."""
    momentum = [row("agc", 0, 1.0, {"optimizer.momentum": 0.5})]
    with pytest.raises(InputError, match="optimizer.momentum: 0.5, nothing"):
        strategies([*rows(), *momentum])
    other = [row("none", 0, 1.0, {"model.alpha": 0.75}, model="chimera")]
    assert strategies([*rows(), *other]).models == ["waveform", "chimera"]
    with pytest.raises(InputError, match="model.alpha of chimera: 0.5, 0.75"):
        strategies([*rows(), *other, row("none", 1, 1.0, {"model.alpha": 0.5}, model="chimera")])


def test_the_command_reads_tables(tmp_path):
    path = tmp_path / "broken.csv"
    write_table(path, pd.DataFrame([*rows(), row("agc", 0, 1.0, valid_loss="low")]))
    with pytest.raises(InputError, match=r"broken.csv, line 23, valid_loss: expected a number, got 'low'"):
        read_table(path)
    for changes, words in (
        ({"seed": "1.0"}, "seed: expected a whole number, got '1.0'"),
        ({"si_sdr": ""}, "si_sdr: expected a number, got ''"),
        ({"si_sdr": "nan"}, "si_sdr: expected a number, got 'nan'"),
        ({"seed": "1" + "0" * 400}, "seed: expected a whole number, got '10000"),
        ({"clip.p": "ten"}, "line 2, clip.p: expected a number, got 'ten'"),
        ({"command": ""}, "line 2, command: expected a text, got nothing"),
    ):
        write_table(path, pd.DataFrame([row("agc", 0, 1.0) | changes]))
        with pytest.raises(InputError, match=words):
            read_table(path)
    write_table(path, pd.DataFrame(rows()))
    whole = path.read_text()
    for damage in (whole[: whole.rindex(",")], whole.rstrip("\n") + ",more\n"):
        path.write_text(damage)
        with pytest.raises(InputError, match="broken.csv, line 22, expected as many cells as there are columns"):
            read_table(path)
    write_table(tmp_path / "a.csv", pd.DataFrame(rows()))
    for output in ("a.png", "new/a.tex"):
        arguments = ["strategies", tmp_path / "a.csv", "--output", tmp_path / output]
        result = call_program(*STUDIES, *arguments, cwd=tmp_path)
        assert result.returncode == 0 and "autoclip_windowed" in result.stdout, result.stderr
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert r"zclip & 4.00 $\pm$ 9.94 & -1.00 $\pm$ 0.00 &" in (tmp_path / "new/a.tex").read_text()
    for output in ("a.csv", "a.doc"):
        result = call_program(*STUDIES, "strategies", "a.csv", "--output", output, cwd=tmp_path)
        assert result.returncode == 1 and f"--output {output}: expected a new file" in result.stderr
    assert len(read_table(tmp_path / "a.csv")) == 21


def test_reports_have_four_formats(tmp_path):
    first = pd.DataFrame({"SI-SDR": ["1.00 +- 0.10"], "clipped": ["5%"]}, index=["a_b"])
    report = Report({"waveform": first, "chimera": pd.DataFrame({"SI-SDR": ["2.00"]}, index=["c"])}, ["a note"])
    for suffix in (".txt", ".csv", ".md", ".tex"):
        report.write(tmp_path / f"x{suffix}")
    assert "a_b       1.00 +- 0.10       5%\n\nchimera  SI-SDR\n" in (tmp_path / "x.txt").read_text()
    assert (tmp_path / "x.csv").read_text().split("\n")[:3] == [
        "model,row,SI-SDR,clipped",
        "waveform,a_b,1.00 +- 0.10,5%",
        "chimera,c,2.00,",
    ]
    assert (tmp_path / "x.md").read_text().split("\n")[2] == "| waveform | a_b | 1.00 +- 0.10 | 5% |"
    assert (tmp_path / "x.md").read_text().endswith("\n- a note\n")
    assert r"waveform & a\_b & 1.00 $\pm$ 0.10 & 5\% \\" in (tmp_path / "x.tex").read_text()


def scaled_rows() -> list[Row]:
    """Fixed thresholds suit one scale each; AutoClip loses a tenth at one."""
    runs = []
    for loss_scale, magnitude_scale in ((1e-4, 1.0), (1.0, 1.0), (1e4, 1.0), (1.0, 128.0)):
        for seed, base in enumerate((1.0, 5.0, 9.0)):
            scales = {"loss_scale": loss_scale, "magnitude_scale": magnitude_scale}
            lost = 0.1 + 0.01 * seed if magnitude_scale > 1 else 0.0
            runs.append(row("autoclip", seed, base - lost, AUTOCLIP | scales, model="mask_inference"))
            for norm in (1e-4, 1.0, 1e4):
                gain = 0.5 if norm == loss_scale * magnitude_scale else -1.0
                settings = {"clip.max_norm": norm} | scales
                runs.append(row("fixed", seed, base + gain, settings, model="mask_inference"))
    return runs


def test_what_a_scale_changes_is_taken_seed_by_seed(tmp_path):
    runs = pd.DataFrame(scaled_rows())
    study = Scales(runs)
    assert list(study.scales) == ["loss x 0.0001", "as it is", "magnitudes x 128", "loss x 10000"]
    assert list(study.scales.values()) == [1e-4, 1, 128, 1e4]
    change = study.change("autoclip p=10", "magnitudes x 128")
    assert change.value == pytest.approx(-0.11)
    assert change.half_width == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)
    assert study.change("autoclip p=10", "loss x 10000")[:3] == pytest.approx((0, 0, 3))
    assert study.change("fixed max_norm=1", "loss x 10000").value == pytest.approx(-1.5)
    assert study.change("fixed max_norm=10000", "loss x 10000").value == pytest.approx(1.5)
    write_table(tmp_path / "a.csv", runs)
    arguments = ["scales", tmp_path / "a.csv", "--output", tmp_path / "a.png"]
    result = call_program(*STUDIES, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "autoclip p=10, magnitudes x 128 4.89 +- 9.91 -0.11 +- 0.02 50%" in " ".join(result.stdout.split())
    assert study.clipped("autoclip p=10", "magnitudes x 128") == pytest.approx(0.5)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="runs of mask_inference, waveform; choose one"):
        Scales(pd.DataFrame([*scaled_rows(), *rows()]))
    with pytest.raises(InputError, match="two runs of strategy autoclip p=10, scale loss x 0.0001, seed 0"):
        Scales(pd.DataFrame([*scaled_rows(), scaled_rows()[0]]))


def test_curves_are_means_over_windows(make_run, tmp_path):
    run = make_run("trainer.max_steps=60", "clip.p=50", "trainer.dynamics_steps=10")
    steps = read_log(run / "steps.csv")
    result = call_program(*STUDIES, "collect", "--curves", run, tmp_path / "curves.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    first, last = load_curves(tmp_path / "curves.csv").to_dict("records")
    assert (first["step"], last["step"], last["clip.p"], last["clip"]) == (50, 60, 50, "autoclip")
    columns = {
        name: [float(step[f"train/{name}"]) for step in steps] for name in ("loss", "grad_norm", "clip_coefficient")
    }
    assert first["loss"] == pytest.approx(np.mean(columns["loss"][:50]), rel=1e-4)
    assert last["loss"] == pytest.approx(np.mean(columns["loss"][50:]), rel=1e-4)
    assert last["grad_norm"] == pytest.approx(np.median(columns["grad_norm"][50:]), rel=1e-3)
    clipped = np.array(columns["clip_coefficient"]) < 1
    assert first["clipped_fraction"] == pytest.approx(clipped[:50].mean(), abs=1e-3) and clipped.any()
    table, unfinished = collect_runs([run])
    [collected] = table.to_dict("records")
    sizes = [float(step["step_size"]) for step in read_log(run / "dynamics.csv")]
    assert len(sizes) == 6 and unfinished == 0  # of which the first quarter, one, is left out
    assert collected["step_size_mean"] == pytest.approx(np.mean(sizes[1:]), rel=1e-3)
    assert collected["step_size_variance"] == pytest.approx(np.var(sizes[1:]), rel=1e-3)
    write_table(tmp_path / "old.csv", table)
    with pytest.raises(InputError, match="old.csv: expected the columns model, clip, seed, step"):
        load_curves(tmp_path / "old.csv")


def test_figures_show_every_strategy():
    study = strategies(rows())
    [differences] = strategies_figure(study).axes
    gains = dict(zip([name for name in study.strategies if name != "none"], [0.5, 0.3, -1, 0.6], strict=True))
    by_gain = sorted(gains, key=gains.get, reverse=True)
    assert [label.get_text() for label in differences.get_yticklabels()] == by_gain
    means = [line.get_xdata()[0] for line in differences.lines if line.get_marker() == "o"]
    assert means == pytest.approx([0.6, 0.5, 0.3, -1])
    clipped = [item for item in rows() if item["clip"] != "none"]
    [beside_autoclip] = strategies_figure(strategies(clipped)).axes
    assert beside_autoclip.get_xlabel() == "test SI-SDR beside autoclip p=10 [dB]"
    with pytest.raises(InputError, match="no runs with none or autoclip p=10, .*: add clip=none"):
        strategies_figure(strategies([item for item in clipped if item["clip"] != "autoclip"]))
    windows = [
        {name: value for name, value in item.items() if name in ("model", "seed") or name.startswith("clip")}
        | {"step": step, "loss": loss, "clipped_fraction": 0.5}
        for item in rows()
        for step, loss in ((50, 2.0), (60, 1.0 + item["seed"]))
    ]
    above, below, *_ = curves_figure(study, pd.DataFrame(windows)).axes
    assert [line.get_ydata().tolist() for line in above.lines] == [[2, 2]] * len(study.strategies)
    assert below.images[0].get_array().tolist() == [[50, 50]] * len(study.strategies)


def test_table_1_as_a_figure_has_a_panel_for_every_loss():
    """The paper's figures as ours: both lines are the same."""
    runs = [
        row("autoclip", 0, values[column], {"clip.p": float(p)}, model=model)
        for p, values in PAPER.items()
        for column, model in enumerate(MODELS)
    ]
    axes = table1_figure(Table1(pd.DataFrame(runs))).axes
    assert [axis.get_title().split()[0] for axis in axes] == list(MODELS.values())
    for axis in axes:
        ours, paper = [line.get_ydata() for line in axis.lines if line.get_marker() in ("o", "s")]
        assert list(ours) == pytest.approx(list(paper))


def condition_rows() -> list[Row]:
    """AutoClip gains nothing with Adam, 1, 2 and 3 dB with SGD, which only mask inference has."""
    runs = []
    for seed, base in enumerate((1.0, 5.0, 9.0)):
        for optimizer, settings, gain in (
            ("sgd", {"optimizer.lr": 3000.0, "optimizer.momentum": 0.9}, 1.0 + seed),
            ("adam", {"optimizer.lr": 0.01}, 0.0),
            ("adam", {"optimizer.lr": 0.002}, 0.0),
        ):
            for model in ("mask_inference", "waveform")[: 1 + (optimizer == "adam")]:
                where = {"model": model, "optimizer": optimizer}
                runs.append(row("none", seed, base, settings, **where))
                runs.append(row("autoclip", seed, base + gain, AUTOCLIP | settings, **where))
    return runs


def test_conditions_are_compared_each_by_itself(tmp_path):
    study = Conditions(pd.DataFrame(condition_rows()))
    adam, sgd = ["optimizer adam, lr 0.002", "optimizer adam, lr 0.01"], "optimizer sgd, lr 3000"
    assert study.titles == [*adam, sgd] and study.of("waveform") == adam
    gain = study.gain("autoclip p=10", "mask_inference", sgd)
    assert gain.value == pytest.approx(2) and gain.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    write_table(tmp_path / "a.csv", pd.DataFrame(condition_rows()))
    arguments = ["conditions", tmp_path / "a.csv", "--output", tmp_path / "a.png"]
    result = call_program(*STUDIES, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "optimizer sgd, lr 3000 5.00 +- 9.94 7.00 +- 12.42 2.00 +- 2.48" in text
    assert "data x, " in text and "over seeds 0, 1, 2;" in text
    assert (tmp_path / "a.png").stat().st_size > 10_000
    first, second = conditions_figure(study).axes
    assert [line.get_xdata()[0] for line in first.lines if line.get_marker() == "o"] == pytest.approx([0, 0, 2])
    assert [label.get_text() for label in second.get_yticklabels()] == [adam[0], "lr 0.01"]
    where = {"optimizer.lr": 3000.0, "optimizer.momentum": 0.9}
    other = row("agc", 0, 1.0, where, optimizer="sgd", commit="other")
    with pytest.raises(InputError, match="commit: other, x.*--mixed"):
        Conditions(pd.DataFrame([*condition_rows(), other]))
    with pytest.raises(InputError, match="no finished runs"):
        Conditions(pd.DataFrame(columns=list(BLANK_RUN)))
    one_more = row("agc", 3, 1.0, where, optimizer="sgd", model="mask_inference", commit="y")
    text = str(Conditions(pd.DataFrame([*condition_rows(), one_more]), mixed=True).report())
    assert "optimizer sgd, lr 3000: MIXED: runs differ in commit: x, y" in text
    assert "7.00 +- 12.42 (3 of 4)" in text


def test_sizes_are_compared_among_the_models_that_have_them():
    runs = pd.DataFrame({"model": ["dprnn", "conv_tasnet"], "seed": [0, 0], "model.hidden_size": [32.0, np.nan]})
    assert differences(runs) == {}
    runs = pd.concat([runs, runs.head(1).assign(**{"model.hidden_size": 64.0})])
    assert differences(runs) == {"model.hidden_size": ["32", "64"]}
