"""Clipping strategies side by side: what the tables say of known scores."""

import numpy as np
import pytest
from conftest import BLANK_ROW, run_program

from separation.errors import InputError
from separation.studies.conditions import Conditions
from separation.studies.conditions import report as conditions_report
from separation.studies.curves import load_curves
from separation.studies.run_table import Row, collect, read_log, read_rows, write_rows
from separation.studies.scales import ScaleComparison
from separation.studies.strategies import Comparison, report, strategy_names
from separation.studies.strategy_figures import conditions_figure, curves_figure, difference_figure


def row(clip: str, seed: int, si_sdr: float, p: str = "", **changes: str) -> Row:
    common = BLANK_ROW | {"model": "waveform", "clip": clip, "p": p, "seed": str(seed)}
    numbers = {"valid_loss": "1", "clipped_fraction": "0.5", "skipped_steps": "0", "step_seconds": "0.1"}
    return common | numbers | {"si_sdr": str(si_sdr), "command": f"{clip} {p} {seed}"} | changes


def rows() -> list[Row]:
    """Three seeds that lie far apart, and strategies whose differences don't."""
    found = []
    for seed, base in enumerate((1.0, 5.0, 9.0)):
        found.append(row("NoClip", seed, base, step_seconds="0.2"))
        found.append(row("AutoClip", seed, base + 0.5, p="10"))
        found.append(row("AutoClip(window=100)", seed, base + (0.2, 0.3, 0.4)[seed], p="10"))
        found.append(row("ZClip(alpha=0.97, tau=2.5)", seed, base - 1, skipped_steps=str(seed)))
        for norm, gain, loss in (("0.01", 0.9, "3"), ("0.1", 0.6, "2"), ("1.0", -2, "4")):
            found.append(row(f"FixedClip(max_norm={norm})", seed, base + gain, valid_loss=loss))
    return found


def test_differences_are_taken_seed_by_seed():
    own = Comparison(rows())
    assert own.strategies == ["NoClip", "AutoClip p=10", "AutoClip p=10 window=100", "ZClip", "FixedClip"]
    assert own.mean("NoClip", "waveform").value == pytest.approx(5)
    assert own.mean("NoClip", "waveform").half_width == pytest.approx(4.302653 * 4 / 3**0.5, rel=1e-5)
    gain = own.difference("AutoClip p=10", "waveform", "NoClip")
    assert gain.value == pytest.approx(0.5) and gain.half_width == pytest.approx(0, abs=1e-9)
    windowed = own.difference("AutoClip p=10 window=100", "waveform", "NoClip")
    assert windowed.value == pytest.approx(0.3)
    assert windowed.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert own.column("ZClip", "waveform", "skipped_steps") == 1


def test_the_validation_loss_chooses_of_a_grid_not_the_score():
    own = Comparison(rows())
    assert own.chosen == {("FixedClip", "waveform"): "0.1"}
    assert own.difference("FixedClip", "waveform", "NoClip").value == pytest.approx(0.6)
    text = " ".join(report(own).split())
    assert "FixedClip max_norm=0.1 5.60 +- 9.94 0.60 +- 0.00 0.10 +- 0.00 50% 0 1 1 " in text
    assert "FixedClip, by max_norm: 0.01: 5.90 +- 9.94; 0.1: 5.60 +- 9.94; 1.0: 3.00 +- 9.94" in text
    assert "(the lowest validation loss: 0.1)" in text


def test_an_incomplete_grid_chooses_by_the_seeds_that_all_values_have():
    def grid(*losses: tuple[str, int, str]) -> Comparison:
        return Comparison(
            [row(f"FixedClip(max_norm={norm})", seed, 1.0, valid_loss=loss) for norm, seed, loss in losses]
        )

    low, high = [("1", 0, "-5"), ("1", 1, "-4"), ("1", 2, "-3")], ("10", 0, "-4.5")
    own = grid(*low, high)
    assert own.chosen == {("FixedClip", "waveform"): "1"}
    text = report(own)
    assert "1: 1.00 +- 0.00; 10: 1.00 (1 of 3) (the lowest validation loss: 1, the grid's edge)" in text
    assert grid(*low, high, ("3", 3, "-9")).chosen == {("FixedClip", "waveform"): "1"}  # no seed has all


def test_names_say_what_sets_a_strategy_apart():
    def names(*clips: tuple[str, str], tuned: bool = True) -> list[str]:
        return list(strategy_names([row(clip, 0, 1.0, p=p) for clip, p in clips], tuned).values())

    assert names(("AutoClip(window=100)", "10")) == ["AutoClip p=10 window=100"]
    assert names(("AutoClip", "10.0"), ("AutoClip", "1e1")) == ["AutoClip p=10"] * 2
    assert names(("ZClip(alpha=0.97, tau=2.5)", ""), ("ZClip(alpha=0.97, tau=3)", "")) == [
        "ZClip tau=2.5",
        "ZClip tau=3",
    ]
    assert names(("FixedClip(max_norm=1.0)", ""), tuned=False) == ["FixedClip max_norm=1.0"]
    errors = [("ErrorFeedback(max_norm=1, max_error_norm=1)", ""), ("ErrorFeedback(max_norm=3, max_error_norm=3)", "")]
    assert names(*errors) == ["ErrorFeedback", "ErrorFeedback"]
    grid = [(f"ErrorFeedback(max_norm={norm}, max_error_norm=9)", "") for norm in (1, 3, 9)]
    assert names(*grid) == ["ErrorFeedback"] * 3
    assert names(*errors, ("ErrorFeedback(max_norm=3, max_error_norm=9)", ""))[2] == "ErrorFeedback max_error_norm=9"


def test_what_is_missing_or_differs_is_said():
    own = Comparison([item for item in rows() if (item["clip"], item["seed"]) != ("NoClip", "2")])
    assert own.difference("AutoClip p=10", "waveform", "NoClip").num_values == 2
    assert "(2 of 3)" in report(own)
    assert "missing" in report(Comparison([item for item in rows() if item["clip"] != "NoClip"]))
    mixed = [*rows(), row("AGC", 0, 1.0, commit="other")]
    with pytest.raises(InputError, match="commit: other, x.*--mixed"):
        Comparison(mixed)
    assert "MIXED: runs differ in commit" in report(Comparison(mixed, mixed=True))
    with pytest.raises(InputError, match="two runs of waveform, NoClip, seed 0"):
        Comparison([*rows(), row("NoClip", 0, 2.0)])
    with pytest.raises(InputError, match="no finished runs"):
        Comparison([])


def test_the_script_reads_tables(tmp_path):
    write_rows(tmp_path / "broken.csv", [*rows(), row("AGC", 0, 1.0, valid_loss="low")])
    with pytest.raises(InputError, match=r"broken.csv, line 23, valid_loss: expected a number, got 'low'"):
        read_rows(tmp_path / "broken.csv")
    for changes, words in (
        ({"seed": "1.0"}, "seed: expected a whole number, got '1.0'"),
        ({"si_sdr": ""}, "si_sdr: expected a number, got ''"),
        ({"si_sdr": "nan"}, "si_sdr: expected a number, got 'nan'"),
        ({"seed": "1" + "0" * 400}, "seed: expected a whole number, got '10000"),
    ):
        write_rows(tmp_path / "broken.csv", [row("AGC", 0, 1.0) | changes])
        with pytest.raises(InputError, match=words):
            read_rows(tmp_path / "broken.csv")
    write_rows(tmp_path / "a.csv", rows())
    result = run_program("scripts/compare_clipping.py", tmp_path / "a.csv", tmp_path / "a.png", cwd=tmp_path)
    assert result.returncode == 0 and "AutoClip p=10 window=100" in result.stdout
    assert (tmp_path / "a.png").stat().st_size > 10_000


def scaled_rows() -> list[Row]:
    """Fixed thresholds suit one scale each; AutoClip loses a tenth at one."""
    found = []
    for loss_scale, magnitude_scale in ((1e-4, 1.0), (1.0, 1.0), (1e4, 1.0), (1.0, 128.0)):
        for seed, base in enumerate((1.0, 5.0, 9.0)):
            scales = {"loss_scale": str(loss_scale), "magnitude_scale": str(magnitude_scale), "model": "mask_inference"}
            lost = 0.1 + 0.01 * seed if magnitude_scale > 1 else 0.0
            found.append(row("AutoClip", seed, base - lost, p="10", **scales))
            for norm in (1e-4, 1.0, 1e4):
                gain = 0.5 if norm == loss_scale * magnitude_scale else -1.0
                found.append(row(f"FixedClip(max_norm={norm:g})", seed, base + gain, **scales))
    return found


def test_what_a_scale_changes_is_taken_seed_by_seed(tmp_path):
    own = ScaleComparison(scaled_rows())
    assert own.scales == [(1e-4, 1.0), (1.0, 1.0), (1.0, 128.0), (1e4, 1.0)]
    change = own.change("AutoClip p=10", (1.0, 128.0))
    assert change.value == pytest.approx(-0.11)
    assert change.half_width == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-5)
    assert own.change("AutoClip p=10", (1e4, 1.0)) == pytest.approx((0, 0, 3))
    assert own.change("FixedClip max_norm=1", (1e4, 1.0)).value == pytest.approx(-1.5)
    assert own.change("FixedClip max_norm=10000", (1e4, 1.0)).value == pytest.approx(1.5)
    write_rows(tmp_path / "a.csv", scaled_rows())
    result = run_program("scripts/compare_scales.py", tmp_path / "a.csv", tmp_path / "a.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "AutoClip p=10, magnitudes x 128 4.89 +- 9.91 -0.11 +- 0.02 50%" in " ".join(result.stdout.split())
    assert own.clipped("AutoClip p=10", (1.0, 128.0)) == pytest.approx(0.5)
    assert (tmp_path / "a.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="runs of mask_inference, waveform; choose one"):
        ScaleComparison([*scaled_rows(), *rows()])
    with pytest.raises(InputError, match="two runs of AutoClip, scales"):
        ScaleComparison([*scaled_rows(), scaled_rows()[0]])


def test_curves_are_means_over_windows(make_run, tmp_path):
    run = make_run("trainer.max_steps=60", "clip.p=50", "trainer.dynamics_steps=10")
    steps = read_log(run / "steps.csv")
    result = run_program("scripts/collect_curves.py", run, tmp_path / "curves.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    first, last = load_curves(tmp_path / "curves.csv")
    assert (first["step"], last["step"], last["p"], last["clip"]) == ("50", "60", "50", "AutoClip")
    columns = {
        name: [float(step[f"train/{name}"]) for step in steps] for name in ("loss", "grad_norm", "clip_coefficient")
    }
    assert float(first["loss"]) == pytest.approx(np.mean(columns["loss"][:50]), rel=1e-4)
    assert float(last["loss"]) == pytest.approx(np.mean(columns["loss"][50:]), rel=1e-4)
    assert float(last["grad_norm"]) == pytest.approx(np.median(columns["grad_norm"][50:]), rel=1e-3)
    clipped = np.array(columns["clip_coefficient"]) < 1
    assert float(first["clipped_fraction"]) == pytest.approx(clipped[:50].mean(), abs=1e-3) and clipped.any()
    [collected], unfinished = collect([run])
    sizes = [float(step["step_size"]) for step in read_log(run / "dynamics.csv")]
    assert len(sizes) == 6 and unfinished == 0  # of which the first quarter, one, is left out
    assert float(collected["step_size_mean"]) == pytest.approx(np.mean(sizes[1:]), rel=1e-3)
    assert float(collected["step_size_variance"]) == pytest.approx(np.var(sizes[1:]), rel=1e-3)
    write_rows(tmp_path / "old.csv", [collected])
    with pytest.raises(InputError, match="old.csv: expected the columns model, clip, p, seed, step"):
        load_curves(tmp_path / "old.csv")


def test_figures_show_every_strategy():
    own = Comparison(rows())
    [differences] = difference_figure(own).axes
    assert [label.get_text() for label in differences.get_yticklabels()] == [
        name for name in own.strategies if name != "NoClip"
    ]
    means = [line.get_xdata()[0] for line in differences.lines if line.get_marker() == "o"]
    assert means == pytest.approx([0.5, 0.3, -1, 0.6])
    windows = [
        {key: item[key] for key in ("model", "clip", "p", "seed")}
        | {"step": step, "loss": loss, "clipped_fraction": "0.5"}
        for item in rows()
        for step, loss in (("50", "2"), ("60", str(1 + int(item["seed"]))))
    ]
    above, below, *_ = curves_figure(own, windows).axes
    assert [line.get_ydata().tolist() for line in above.lines] == [[2, 2]] * len(own.strategies)
    assert below.images[0].get_array().tolist() == [[50, 50]] * len(own.strategies)


def condition_rows() -> list[Row]:
    """AutoClip gains nothing with Adam, 1, 2 and 3 dB with SGD, which only mask inference has."""
    found = []
    for seed, base in enumerate((1.0, 5.0, 9.0)):
        for optimizer, lr, gain in (("SGD", "3000", 1.0 + seed), ("Adam", "0.01", 0.0), ("Adam", "0.002", 0.0)):
            for model in ("mask_inference", "waveform")[: 1 + (optimizer == "Adam")]:
                where = {"model": model, "optimizer": optimizer, "lr": lr}
                found.append(row("NoClip", seed, base, **where))
                found.append(row("AutoClip", seed, base + gain, p="10", **where))
    return found


def test_conditions_are_compared_each_by_itself(tmp_path):
    own = Conditions(condition_rows())
    assert list(own.comparisons) == [("Adam", "0.002"), ("Adam", "0.01"), ("SGD", "3000")]
    assert list(own.of("waveform")) == [("Adam", "0.002"), ("Adam", "0.01")]
    gain = own.comparisons["SGD", "3000"].difference("AutoClip p=10", "mask_inference", "NoClip")
    assert gain.value == pytest.approx(2) and gain.half_width == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    write_rows(tmp_path / "a.csv", condition_rows())
    result = run_program("scripts/compare_conditions.py", tmp_path / "a.csv", tmp_path / "a.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "optimizer SGD, lr 3000 5.00 +- 9.94 7.00 +- 12.42 2.00 +- 2.48" in text
    assert "corpus x, " in text and "over seeds 0, 1, 2;" in text
    assert (tmp_path / "a.png").stat().st_size > 10_000
    first, second = conditions_figure(own).axes
    assert [line.get_xdata()[0] for line in first.lines if line.get_marker() == "o"] == pytest.approx([0, 0, 2])
    assert [label.get_text() for label in second.get_yticklabels()] == [
        "optimizer Adam, lr 0.002",
        "optimizer Adam, lr 0.01",
    ]
    with pytest.raises(InputError, match="commit: other, x.*--mixed"):
        Conditions([*condition_rows(), row("AGC", 0, 1.0, optimizer="SGD", lr="3000", commit="other")])
    with pytest.raises(InputError, match="no finished runs"):
        Conditions([])
    one_more = [*condition_rows(), row("AGC", 3, 1.0, optimizer="SGD", lr="3000", model="mask_inference", commit="y")]
    text = conditions_report(Conditions(one_more, mixed=True))
    assert "optimizer SGD, lr 3000: MIXED: runs differ in commit: x, y" in text
    assert "7.00 +- 12.42 (3 of 4)" in text
