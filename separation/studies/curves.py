"""Loss, gradient norm and clipping over the steps of many runs, in windows, as rows of a table."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

from tqdm import tqdm

from separation.studies.run_table import DAMAGE, Row, all_runs, damaged, read_log, read_rows, run_name

COLUMNS = ("model", "clip", "p", "seed", "step", "loss", "grad_norm", "clipped_fraction")
WINDOW = 50
"""Steps in a row of the table."""


def collect_curves(folders: Sequence[Path]) -> list[Row]:
    """For every run and window of steps its last step, the mean loss, the median norm, and how many were clipped.

    Args:
        folders: each a run's, or one that holds runs.

    Raises:
        InputError: there is no run, or a run's log is damaged.
    """
    rows: list[Row] = []
    for run in tqdm(all_runs(folders), desc="curves", disable=None, leave=False):
        config = run.load_config()
        try:
            name = {key: str(value) for key, value in run_name(config).items()}
            steps = read_log(run.steps) if run.steps.is_file() else []
            windows = [steps[i : i + WINDOW] for i in range(0, len(steps), WINDOW)]
            rows += [name | _window(window) for window in windows]
        except DAMAGE as error:
            raise damaged(run, error) from error
    return rows


def _window(steps: Sequence[dict[str, str]]) -> Row:
    return {
        "step": steps[-1]["step"],
        "loss": f"{fmean(float(step['train/loss']) for step in steps):.5g}",
        "grad_norm": f"{median(float(step['train/grad_norm']) for step in steps):.4g}",
        "clipped_fraction": f"{fmean(float(step['train/clip_coefficient']) < 1 for step in steps):.3g}",
    }


def load_curves(path: Path) -> list[Row]:
    """Of a table (.csv), or of a folder of runs.

    Raises:
        InputError: nothing is there, or it is damaged.
    """
    return read_rows(path, COLUMNS) if path.suffix == ".csv" else collect_curves([path])
