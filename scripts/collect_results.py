"""Collects finished runs in a table: `python scripts/collect_results.py FOLDER [FOLDER ...] OUTPUT.csv`.

Each folder is a run's, or holds runs. A row is a run: its model, clipping, seed, steps, network, scores on the test
split, and where it comes from. Rows that the file holds already stay; runs that it holds are not added again.
"""

import csv
import re
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from separation import cli
from separation.atomic import replacing
from separation.errors import InputError
from separation.results import find_runs, load_summary
from separation.run_folder import RunFolder

LOSSES = {
    "MaskInferenceLoss": "mask_inference",
    "WaveformLoss": "waveform",
    "DeepClusteringLoss": "deep_clustering",
    "WhitenedKMeansLoss": "whitened_kmeans",
    "ChimeraLoss": "chimera",
}
COLUMNS = (
    *("corpus", "model", "clip", "p", "seed", "steps", "hidden_size", "num_layers", "num_mixtures"),
    *("si_sdr", "si_sdr_improvement", "training_seconds", "commit", "date", "machine", "command"),
)


def row(run: RunFolder) -> dict[str, Any] | None:
    """A run's row; None where it isn't finished.

    Raises:
        InputError: its files are damaged.
    """
    summary = load_summary(run)
    if summary is None or not run.epochs.is_file():
        return None
    config = run.load_config()
    try:
        with open(run.epochs, newline="", encoding="utf-8") as file:
            last = list(csv.DictReader(file))[-1]
        return cells(config, summary, last)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{run.path}: its files are damaged ({reason}); leave it out, or train again") from error


def cells(config: DictConfig, summary: dict[str, Any], last: dict[str, str]) -> dict[str, Any]:
    """A row of a run's settings, summary and last epoch."""
    origin = summary["provenance"]
    return {
        "corpus": config.data._target_.rpartition(".")[2],
        "model": LOSSES.get(config.model.loss._target_.rpartition(".")[2], config.model.loss._target_),
        "clip": config.clip._target_.rpartition(".")[2],
        "p": config.clip.get("p", ""),
        "seed": config.seed,
        "steps": last["step"],
        "hidden_size": config.model.hidden_size,
        "num_layers": config.model.num_layers,
        "num_mixtures": summary["num_mixtures"],
        "si_sdr": f"{summary['si_sdr']:.4f}",
        "si_sdr_improvement": f"{summary['si_sdr_improvement']:.4f}",
        "training_seconds": f"{float(last['seconds']):.0f}",
        **{name: origin[name] for name in ("commit", "date", "machine")},
        "command": re.sub(r"(?<==)\S*/", "", origin["command"]),  # of paths only the last part
    }


def main() -> None:
    """Writes the table and says how many rows are new."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    *folders, output = [Path(argument) for argument in sys.argv[1:]] or [Path()]
    if not folders or output.suffix != ".csv":
        raise InputError("expected FOLDER [FOLDER ...] OUTPUT.csv; --help says more")
    runs = [run for folder in folders for run in find_runs(folder)]
    if not runs:
        raise InputError(f"{', '.join(map(str, folders))}: holds no runs (folders with a config.yaml)")
    rows: list[dict[str, Any]] = []
    if output.exists():
        with open(output, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    keys = {(item["command"], item["commit"]) for item in rows}
    found = [item for item in map(row, tqdm(runs, desc="runs", disable=None)) if item is not None]
    new = [item for item in found if (item["command"], item["commit"]) not in keys]
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([*rows, *new])
    print(f"{output}: {len(new)} new, {len(rows)} kept, {len(runs) - len(found)} unfinished")


if __name__ == "__main__":
    cli.entry_point(main)
