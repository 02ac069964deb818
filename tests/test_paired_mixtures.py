"""Differences mixture by mixture, and learning rates, on scores that are known."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import STUDIES, TINY, call_program
from test_gains import BASE

from separation.errors import InputError
from separation.studies.intervals import crossed_bootstrap
from separation.studies.paired_mixtures import PairedMixtures, collect_mixtures
from separation.studies.rates import Rates

SEEDS, MIXTURES = 3, 40


def scores(**changed: object) -> pd.DataFrame:
    """With seed s, clipping gains 1 + s dB on even mixtures and nothing on odd ones; the last mixture has no score."""
    rows = []
    for seed in range(SEEDS):
        for p in (10, 100):
            values = [float(m) + (1 + seed) * (p == 10) * (m % 2 == 0) for m in range(MIXTURES)]
            texts = json.dumps([*values, None])
            common = {**BASE, "model": "waveform", "seed": seed, "clip.p": float(p)}
            rows += [{**common, "split": "test", "names": "41 a to b", "scores": texts}]
    return pd.DataFrame(rows).assign(**changed)


def test_differences_are_of_the_same_seed_and_mixture():
    study = PairedMixtures(scores())
    differences = study.of["test", "waveform", "autoclip p=10"]
    assert differences.shape == (SEEDS, MIXTURES + 1)
    np.testing.assert_array_equal(differences[:, :MIXTURES:2], [[1.0] * 20, [2.0] * 20, [3.0] * 20])
    assert (differences[:, 1:MIXTURES:2] == 0).all() and np.isnan(differences[:, -1]).all()
    interval = study.interval("test", "waveform", "autoclip p=10")
    assert interval.value == 1.0
    # Of (1 + s) times 0 or 1, half and half: the variance of a bootstrap mean is that of a product of two means.
    seeds, mixtures = (2.0, 2 / 3 / SEEDS), (0.5, 0.25 / MIXTURES)  # means, and variances of resampled means
    deviation = math.sqrt(seeds[1] * mixtures[1] + seeds[1] * mixtures[0] ** 2 + mixtures[1] * seeds[0] ** 2)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * deviation, rel=0.05)
    text = str(study.report())
    assert "50%" in text and "1.00 +- 1.24" in text  # of .5, 1 and 1.5: Student's t for two degrees of freedom


def test_a_bootstrap_of_crossed_chances():
    """Against a slow one that draws rows and columns one by one."""
    random = np.random.default_rng(1)
    values = random.normal(size=(4, 1)) + random.normal(size=(1, 9)) + random.normal(size=(4, 9))
    means = [values[random.integers(0, 4, 4)][:, random.integers(0, 9, 9)].mean() for _ in range(20_000)]
    interval = crossed_bootstrap(values)
    assert interval.value == pytest.approx(values.mean())
    np.testing.assert_allclose(interval[1:], np.percentile(means, [2.5, 97.5]), atol=0.04)
    single = crossed_bootstrap(np.full((2, 3), 1.5))
    assert single == (1.5, 1.5, 1.5)
    assert crossed_bootstrap(values) == interval  # the same each time


def test_what_does_not_go_together_is_told():
    rows = scores()
    with pytest.raises(InputError, match="no run has a partner without clipping"):
        PairedMixtures(rows[rows["clip.p"] == 10])
    with pytest.raises(InputError, match="two runs of model waveform, strategy autoclip p=10, seed 0"):
        PairedMixtures(pd.concat([scores(), scores()]))
    rows.loc[0, "names"] = "40 a to c"
    with pytest.raises(InputError, match=r"waveform: its runs were scored on other mixtures \(40 a to c, 41 a to b\)"):
        PairedMixtures(rows)
    with pytest.raises(InputError, match="the runs differ"):
        PairedMixtures(scores(commit=["a", "b"] * SEEDS))


def rates(seeds: int = 2) -> pd.DataFrame:
    """AutoClip is best at 2e-3 (4 dB), no clipping at 5e-4 (3.75 dB); with seed 1 all is half a dB higher."""
    means = {10: {5e-4: 3.0, 1e-3: 3.75, 2e-3: 4.0}, 100: {5e-4: 3.75, 1e-3: 2.5, 2e-3: 2.0}}
    rows = [
        {
            **{**BASE, "model": "waveform", "seed": seed, "clip.p": float(p), "optimizer.lr": rate},
            **{"steps": 5000, "num_mixtures": 300, "si_sdr": value + seed / 2, "valid_loss": -value - seed},
        }
        for seed in range(seeds)
        for p, values in means.items()
        for rate, value in values.items()
    ]
    return pd.DataFrame(rows)


def test_the_best_rate_against_the_best():
    study = Rates(rates())
    assert study.best("waveform", "autoclip p=10") == 2e-3 and study.best("waveform", "none") == 5e-4
    assert study.gain_of_best("waveform", "autoclip p=10")[:2] == (0.25, 0.0)
    assert study.good("waveform", "autoclip p=10") == [1e-3, 2e-3] and study.good("waveform", "none") == [5e-4]
    text = str(study.report())
    assert "0.001, 0.002" in text and "0.25 +- 0.00" in text
    rows = rates()
    unfinished = rows[~((rows["seed"] == 1) & (rows["clip.p"] == 100))]
    with pytest.raises(InputError, match="waveform, none: no learning rate has runs of all seeds"):
        str(Rates(unfinished).report())
    with pytest.raises(InputError, match="give runs of both"):
        Rates(rows[rows["clip.p"] == 10])


@pytest.mark.slow
def test_from_run_folders_to_figures(make_run, tmp_path):
    runs = tmp_path / "runs"
    for seed in (0, 1):
        for p in (10, 100):
            shutil.copytree(make_run(*TINY, f"seed={seed}", "clip=autoclip", f"clip.p={p}"), runs / f"p{p}_{seed}")
    table = tmp_path / "mixtures.csv"
    result = call_program(*STUDIES, "collect", "--mixtures", runs, table, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "2 rows" not in result.stdout and str(tmp_path) not in table.read_text()
    [row] = collect_mixtures([runs / "p10_0"]).query("split == 'test'").to_dict("records")
    scored = pd.read_csv(runs / "p10_0/scores.csv").query("split == 'test'")
    assert json.loads(row["scores"]) == pytest.approx(scored.groupby("mixture")["si_sdr"].mean().tolist(), abs=6e-4)
    for name, source in {"mixtures": table, "rates": runs}.items():
        result = call_program(*STUDIES, name, source, "--output", tmp_path / f"{name}.png", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
