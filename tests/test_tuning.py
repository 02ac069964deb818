"""What finding a threshold cost, on runs whose numbers are known."""

import pandas as pd
import pytest
from conftest import BLANK_RUN

from separation.errors import InputError
from separation.studies.tuning import Tuning


def runs() -> pd.DataFrame:
    """Three thresholds, of which 0.1 has the lowest validation loss and 1 the highest score, and AutoClip."""
    common = {**BLANK_RUN, "model": "mask_inference", "seed": 0, "steps": 500, "clip.max_norm": None, "clip.p": None}
    fixed = [(0.01, 0.5, 3.0, 90), (0.1, 0.25, 4.0, 60), (1.0, 0.375, 5.0, 30)]
    rows = [
        {
            **{**common, "clip": "fixed", "clip.max_norm": threshold, "valid_loss": loss, "training_seconds": seconds},
            **{"si_sdr_improvement": score, "unknown_si_sdr_improvement": score - 1},
        }
        for threshold, loss, score, seconds in fixed
    ]
    autoclip = {
        "clip": "autoclip",
        "clip.p": 10.0,
        "valid_loss": 0.3,
        "si_sdr_improvement": 4.5,
        "training_seconds": 66,
    }
    return pd.DataFrame([*rows, {**common, **autoclip, "unknown_si_sdr_improvement": 2.5}])


def test_costs_are_of_all_runs_and_scores_of_the_best_in_validation():
    study = Tuning(runs())
    assert study.cost("mask_inference", "fixed") == {"runs": 3, "steps": 1500, "minutes": 3.0}
    assert study.best("mask_inference", "fixed")["clip.max_norm"] == 0.1
    table = study.report().tables["mask_inference"]
    assert table.loc["fixed"].tolist() == ["3", "1500", "3", "0.1", "0.25", "4.00", "3.00"]
    assert table.loc["autoclip p=10"].tolist() == ["1", "500", "1.1", "", "0.3", "4.50", "2.50"]


def test_what_does_not_go_together_is_refused():
    rows = runs()
    with pytest.raises(InputError, match="no finished runs; recipes/clipping/tune.sh trains them"):
        Tuning(rows[:0])
    with pytest.raises(InputError, match="tuned with one seed"):
        Tuning(rows.assign(seed=range(4)))
    with pytest.raises(InputError, match="the runs differ .*steps: 500, 600"):
        Tuning(rows.assign(steps=[500, 500, 500, 600]))
