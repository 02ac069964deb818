"""The study of when a gain appears, on curves that are known."""

import shutil

import pandas as pd
import pytest
from conftest import STUDIES, TINY, call_program

from separation.errors import InputError
from separation.studies.gains import Gains, collect_validation, load_validation

BASE = {
    "clip": "autoclip",
    "data": "x",
    "optimizer": "adam",
    "commit": "c",
    "date": "d",
    "machine": "m",
    "command": "k",
}


def curves(model: str = "mask_inference", seeds: tuple[int, ...] = (0, 1), **changed: object) -> pd.DataFrame:
    """At step s, clipping gains s / 1000 dB with seed 0, twice that with seed 1, and saves s / 1000 % of the loss."""
    rows = [
        {
            **{**BASE, "model": model, "seed": seed, "clip.p": float(p), "step": step},
            "validation_loss": (1.0 + seed) * (1 - 0.01 * step / 1000 * (p == 10)),
            "validation_si_sdr": 3.0 + seed + (1 + seed) * step / 1000 * (p == 10),
        }
        for seed in seeds
        for p in (10, 100)
        for step in (1000, 2000)
    ]
    return pd.DataFrame(rows).assign(**changed)


def test_differences_are_of_the_same_seed_and_step():
    study = Gains(curves())
    gain = study.of["validation_si_sdr", "mask_inference", "autoclip p=10"]
    assert gain.to_dict() == {0: {1000: 1.0, 2000: 2.0}, 1: {1000: 2.0, 2000: 4.0}}
    loss = study.of["validation_loss", "mask_inference", "autoclip p=10"]
    assert loss.loc[2000].tolist() == pytest.approx([-2.0, -2.0])
    mean = study.means("validation_si_sdr", "mask_inference", "autoclip p=10")[2000]
    # Of 2 and 4: mean 3, standard error 1, and Student's t for one degree of freedom.
    assert (mean.value, mean.half_width) == (3.0, pytest.approx(12.706, abs=1e-3))
    [row] = [line for line in str(study.report()).splitlines() if line.startswith("2,000")]
    assert row.split() == ["2,000", "3.00", "+-", "12.71", "-2.00", "+-", "0.00"]


def test_a_missing_partner_is_told():
    rows = curves(seeds=(0, 1, 2))
    rows = rows[~((rows["seed"] == 2) & (rows["clip.p"] == 100))]
    assert "1.50 +- 6.35 (2 of 3)" in str(Gains(rows).report())
    with pytest.raises(InputError, match="no run has a partner without clipping"):
        Gains(rows[rows["clip.p"] == 10])
    with pytest.raises(InputError, match="two runs of model mask_inference, strategy autoclip p=10, seed 0"):
        Gains(pd.concat([curves(), curves()]))


@pytest.mark.parametrize("changed", [{"commit": "other"}, {"optimizer.lr": 1.0}, {"data": "y"}])
def test_runs_of_another_kind_are_refused(changed):
    rows = pd.concat([curves().assign(**{"optimizer.lr": 2.0}), curves("waveform").assign(**changed)])
    with pytest.raises(InputError, match=f"the runs differ .{next(iter(changed))}"):
        Gains(rows)
    assert "MIXED: runs differ in" in str(Gains(rows, mixed=True).report())


@pytest.mark.slow
def test_from_run_folders_to_a_figure(make_run, tmp_path):
    for p in (10, 100):
        for seed in (0, 1):
            made = make_run(f"clip.p={p}", f"seed={seed}", *TINY)
            shutil.copytree(made, tmp_path / f"runs/p{p}_{seed}")
    rows = collect_validation([tmp_path / "runs"])
    assert len(rows) == 8  # four runs of two epochs
    assert not rows["command"].str.contains("/").any()  # nobody's folders
    result = call_program(*STUDIES, "collect", "--validation", tmp_path / "runs", tmp_path / "v.csv", cwd=tmp_path)
    assert result.returncode == 0
    pd.testing.assert_frame_equal(load_validation([tmp_path / "v.csv"])[["step", "seed"]], rows[["step", "seed"]])
    result = call_program(*STUDIES, "gains", tmp_path / "v.csv", "--output", tmp_path / "gains.svg", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "<svg" in (tmp_path / "gains.svg").read_text()[:1000]
    assert "SI-SDR gain [dB]" in result.stdout
