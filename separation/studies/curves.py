"""Loss, gradient norm and clipping over the steps of many runs, in windows, as a table."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import pandas as pd
from tqdm import tqdm

from separation.studies.comparing import is_clipping
from separation.studies.run_table import (
    DAMAGE,
    all_runs,
    check_cells,
    choices_and_settings,
    damaged,
    read_log,
    read_table,
    typed,
)

CURVE_COLUMNS = ("model", "clip", "seed", "step", "loss", "grad_norm", "clipped_fraction")
WINDOW = 50
"""Steps in a row of the table."""


def collect_curves(folders: Sequence[Path]) -> pd.DataFrame:
    """For every run and window of steps its last step, the mean loss, the median norm, and how many were clipped.

    Args:
        folders: each a run's, or one that holds runs.

    Raises:
        InputError: there is no run, or a run's log is damaged.
    """
    rows: list[dict[str, str]] = []
    for run in tqdm(all_runs(folders), desc="curves", disable=None, leave=False):
        config = run.load_config()
        try:
            settings = choices_and_settings(config)
            names = {name: settings[name] for name in settings if name in ("model", "seed") or is_clipping(name)}
            check_cells(names)
            steps = read_log(run.steps) if run.steps.is_file() else []
            windows = [steps[i : i + WINDOW] for i in range(0, len(steps), WINDOW)]
            rows += [names | _window(window) for window in windows]
        except DAMAGE as error:
            raise damaged(run, error) from error
    return typed(rows, CURVE_COLUMNS)


def _window(steps: Sequence[dict[str, str]]) -> dict[str, str]:
    values = {
        "loss": f"{fmean(float(step['train/loss']) for step in steps):.5g}",
        "grad_norm": f"{median(float(step['train/grad_norm']) for step in steps):.4g}",
        "clipped_fraction": f"{fmean(float(step['train/clip_coefficient']) < 1 for step in steps):.3g}",
    }
    return {"step": steps[-1]["step"], **{name: "" if text == "nan" else text for name, text in values.items()}}


def load_curves(path: Path) -> pd.DataFrame:
    """The curves in a table (.csv), or of a folder of runs.

    Raises:
        InputError: nothing is there, or it is damaged.
    """
    return read_table(path, CURVE_COLUMNS) if path.suffix == ".csv" else collect_curves([path])
