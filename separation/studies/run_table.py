"""Finished runs as rows of a table: settings, scores on the test split, and where they come from."""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, pvariance
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder, settings_digest
from separation.runs.summaries import find_runs, load_summary

LOSSES = {
    "MaskInferenceLoss": "mask_inference",
    "WaveformLoss": "waveform",
    "DeepClusteringLoss": "deep_clustering",
    "WhitenedKMeansLoss": "whitened_kmeans",
    "ChimeraLoss": "chimera",
}
COLUMNS = (
    *("corpus", "model", "clip", "p", "seed", "steps", "hidden_size", "num_layers", "batch_size", "excerpt_frames"),
    *("optimizer", "lr", "loss_scale", "magnitude_scale", "settings", "num_mixtures"),
    *("si_sdr", "si_sdr_improvement", "valid_loss"),
    *("clipped_fraction", "skipped_steps", "step_size_mean", "step_size_variance", "step_seconds", "training_seconds"),
    *("commit", "date", "machine", "command"),
)
TEXTS = ("corpus", "model", "clip", "optimizer", "settings", "commit", "date", "machine", "command")
"""The others hold numbers, ..."""
MAY_BE_EMPTY = ("p", "lr", "step_size_mean", "step_size_variance")
"""... or nothing in these."""
WHOLE = ("seed", "step")
MAY_BE_NAN = ("loss", "grad_norm")
"""Of a step that was left out."""
DAMAGE = (LookupError, TypeError, AttributeError, ValueError, OverflowError, csv.Error, OmegaConfBaseException)
"""What reading a damaged run raises."""
Row = dict[str, str]
SCALES = ("loss_scale", "magnitude_scale")
SAME = (
    *("corpus", "hidden_size", "num_layers", "optimizer", "lr", "batch_size", "excerpt_frames", "steps", *SCALES),
    *("num_mixtures", "commit"),
)
"""What runs in one table share."""


def collect(folders: Sequence[Path]) -> tuple[list[Row], int]:
    """The finished runs in some folders, each a run's or one that holds runs; and how many are not finished.

    Raises:
        InputError: there is no run, or a run's files are damaged.
    """
    runs = all_runs(folders)
    rows = [row for row in map(_row, tqdm(runs, desc="runs", disable=None, leave=False)) if row is not None]
    return rows, len(runs) - len(rows)


def all_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Those in some folders, each a run's or one that holds runs.

    Raises:
        InputError: there is none.
    """
    runs = [run for folder in folders for run in find_runs(folder)]
    if not runs:
        raise InputError(f"{', '.join(map(str, folders))}: holds no runs (folders with a config.yaml)")
    return runs


def load_rows(paths: Sequence[Path]) -> list[Row]:
    """Rows of tables (.csv, as `write_rows` writes them) and of folders of runs; rows that are equal count once. Says
    how many runs have no scores.

    Raises:
        InputError: nothing is there, or it is damaged.
    """
    rows: list[Row] = []
    for path in paths:
        if path.suffix == ".csv":
            rows += read_rows(path)
            continue
        finished, unfinished = collect([path])
        rows += finished
        if unfinished:
            print(f"{path}: {unfinished} of {unfinished + len(finished)} runs have no scores, unfinished or failed")
    return list({tuple(row.items()): row for row in rows}.values())


def read_rows(path: Path, columns: Sequence[str] = COLUMNS) -> list[Row]:
    """A table's rows.

    Raises:
        InputError: it is no table of runs, or of their curves where their columns are given.
    """
    try:
        rows = read_log(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: can't be read ({error}); scripts/collect_results.py writes such tables") from error
    if any(set(row) != set(columns) or None in row.values() for row in rows):
        raise InputError(f"{path}: expected the columns {', '.join(columns)}; collect the runs again")
    for number, row in enumerate(rows, start=2):
        for name in row.keys() - TEXTS:
            if not _is_number(name, row[name]) and (row[name] or name not in MAY_BE_EMPTY):
                kind = "whole number" if name in WHOLE else "number"
                raise InputError(f"{path}, line {number}, {name}: expected a {kind}, got {row[name]!r}")
    return rows


def _is_number(name: str, text: str) -> bool:
    try:
        return math.isfinite(int(text) if name in WHOLE else float(text)) or name in MAY_BE_NAN
    except (ValueError, OverflowError):
        return False


def compare_settings(
    rows: Sequence[Row], mixed: bool, apart: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What runs in a table share, by column; and in what they differ, with all values.

    Args:
        mixed: they may differ.
        apart: columns in which they may differ anyway.

    Raises:
        InputError: they may not, and do.
    """
    found = {name: sorted({row[name] for row in rows}) for name in SAME if name not in apart}
    for model in sorted({row["model"] for row in rows}):  # each has its own
        found[f"settings of {model}"] = sorted({row["settings"] for row in rows if row["model"] == model})
    shared = {name: values[0] for name, values in found.items() if len(values) == 1 and name in SAME}
    differing = {name: values for name, values in found.items() if len(values) > 1}
    if differing and not mixed:
        text = "; ".join(f"{name}: {', '.join(values)}" for name, values in differing.items())
        raise InputError(f"the runs differ ({text}); choose those of one kind, or say --mixed")
    return shared, differing


def differing_lines(differing: dict[str, list[str]]) -> list[str]:
    """What a table of such runs says below it."""
    return [f"MIXED: runs differ in {name}: {', '.join(values)}" for name, values in differing.items()]


def write_rows(path: Path, rows: list[Row], columns: Sequence[str] = COLUMNS) -> None:
    """Writes a table whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _row(run: RunFolder) -> Row | None:
    """A run's row; None where it isn't finished."""
    summary = load_summary(run)
    if summary is None or not run.epochs.is_file():
        return None
    config = run.load_config()
    try:
        epochs, steps = (read_log(path) for path in (run.epochs, run.steps))
        sizes = [float(row["step_size"]) for row in read_log(run.dynamics)] if run.dynamics.is_file() else []
        sizes = sizes[len(sizes) // 4 :]  # less the rise of the first steps
        return {name: str(value) for name, value in _cells(config, summary, epochs, steps, sizes).items()}
    except DAMAGE as error:
        raise damaged(run, error) from error


def damaged(run: RunFolder, error: Exception) -> InputError:
    """What is said of a run whose files can't be read."""
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{run.path}: its files are damaged ({reason}); leave it out, or train again")


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of one of a run's tables."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cells(
    config: DictConfig,
    summary: dict[str, Any],
    epochs: Sequence[dict[str, str]],
    steps: Sequence[dict[str, str]],
    step_sizes: Sequence[float],
) -> dict[str, Any]:
    """A row of a run's settings, summary and logs; without recorded step sizes their cells are empty."""
    origin = summary["provenance"]
    last = epochs[-1]
    return {
        "corpus": config.data._target_.rpartition(".")[2],
        **run_name(config),
        "steps": last["step"],
        "hidden_size": config.model.hidden_size,
        "num_layers": config.model.num_layers,
        "batch_size": config.trainer.batch_size,
        "excerpt_frames": config.trainer.excerpt_frames,
        "optimizer": config.optimizer._target_.rpartition(".")[2],
        "lr": config.optimizer.get("lr", ""),
        **{name: config.trainer.get(name, 1.0) for name in SCALES},
        "settings": settings_digest(config, without=("seed", "clip.", *(f"trainer.{name}" for name in SCALES))),
        "num_mixtures": summary["num_mixtures"],
        "si_sdr": f"{summary['si_sdr']:.4f}",
        "si_sdr_improvement": f"{summary['si_sdr_improvement']:.4f}",
        "valid_loss": f"{min(float(epoch['valid/loss']) for epoch in epochs):.6g}",
        "clipped_fraction": f"{fmean(float(step['train/clip_coefficient']) < 1 for step in steps):.4f}",
        "skipped_steps": sum(int(float(epoch["train/skipped_steps"])) for epoch in epochs),
        "step_size_mean": f"{fmean(step_sizes):.4g}" if step_sizes else "",
        "step_size_variance": f"{pvariance(step_sizes):.4g}" if step_sizes else "",
        "step_seconds": f"{median(float(step['train/seconds']) for step in steps):.4g}",
        "training_seconds": f"{float(last['seconds']):.0f}",
        **{name: origin[name] for name in ("commit", "date", "machine")},
        "command": re.sub(r"(?<==)\S*/", "", origin["command"]),  # of paths only the last part
    }


def run_name(config: DictConfig) -> dict[str, Any]:
    """What tells apart the runs of a study: model, clip, p and seed."""
    return {
        "model": LOSSES.get(config.model.loss._target_.rpartition(".")[2], config.model.loss._target_),
        "clip": config.clip._target_.rpartition(".")[2] + _variant(config.clip),
        "p": config.clip.get("p", ""),
        "seed": config.seed,
    }


def _variant(clip: DictConfig) -> str:
    """What sets a clipper apart beside its class and its percentile, as in "(window=1000)"."""
    others = {name: value for name, value in clip.items() if name not in ("_target_", "p", "on_nonfinite")}
    given = [f"{name!s}={value}" for name, value in others.items() if value is not None]
    return f"({', '.join(given)})" if given else ""
