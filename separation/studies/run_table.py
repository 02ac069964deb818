"""Finished runs as a table: a data frame with a row per run and a column per setting and result, kept as CSV.

Choices (`data`, `model`, `clip`, `optimizer`) and settings (`clip.p`, `trainer.batch_size`, ...) are named as on the
command line. A cell is a number or a text; lists are their JSON; NaN is a setting that the run doesn't have.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median, pvariance
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from separation.data.corpora.corpus import TEST_UNKNOWN
from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import MAY_CHANGE, RunFolder
from separation.runs.summaries import find_runs, load_summary

CHOICES = ("data", "model", "clip", "optimizer")
RESULTS = (
    *("steps", "num_mixtures", "si_sdr", "si_sdr_improvement", "valid_loss", "clipped_fraction", "skipped_steps"),
    *("unknown_si_sdr", "unknown_si_sdr_improvement"),
    *("step_size_mean", "step_size_variance", "step_seconds", "training_seconds"),
)
"""`unknown_...`: of the split test_unknown, if there is one."""
PROVENANCE = ("commit", "date", "machine", "command")
DIGEST = "settings"
"""A column of older tables: a checksum of the settings that have no column there."""
MAY_BE_EMPTY = (
    *("clip.p", "clip.max_norm", "loss_scale", "magnitude_scale"),
    *("unknown_si_sdr", "unknown_si_sdr_improvement"),
    *("step_size_mean", "step_size_variance", "loss", "grad_norm", DIGEST),
)
"""What a strategy, a run without recorded dynamics, a step that was left out, or a newer table may not have."""
TEXTS = (*CHOICES, *PROVENANCE, DIGEST)
NUMBERS = {*RESULTS, *MAY_BE_EMPTY} - {DIGEST}
RUN_COLUMNS = (*CHOICES, "seed", *(name for name in RESULTS if name not in MAY_BE_EMPTY), *PROVENANCE)
"""Columns that every table of runs has."""
DAMAGE = (LookupError, TypeError, AttributeError, ValueError, OverflowError, csv.Error, OmegaConfBaseException)
"""What reading a damaged run raises."""


def load_runs(paths: Sequence[Path]) -> pd.DataFrame:
    """Runs of tables (.csv) and of folders; equal rows count once. Says how many runs have no scores.

    Raises:
        InputError: nothing is there, or it is damaged.
    """
    tables = []
    for path in paths:
        if path.suffix == ".csv":
            tables.append(read_table(path))
            continue
        finished, unfinished = collect_runs([path])
        tables.append(finished)
        if unfinished:
            print(f"{path}: {unfinished} of {unfinished + len(finished)} runs have no scores, unfinished or failed")
    return join(tables)


def join(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several tables, equal ones once."""
    filled = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(filled, ignore_index=True).drop_duplicates(ignore_index=True)


def collect_runs(folders: Sequence[Path]) -> tuple[pd.DataFrame, int]:
    """The finished runs in some folders, each a run's or one that holds runs; and how many are not finished.

    Raises:
        InputError: there is no run, or a run's files are damaged.
    """
    runs = all_runs(folders)
    rows = [row for row in map(_row, tqdm(runs, desc="runs", disable=None, leave=False)) if row is not None]
    return typed(rows, RUN_COLUMNS), len(runs) - len(rows)


def collect_parts(
    folders: Sequence[Path], parts_of: Callable[[RunFolder], list[dict[str, str]]]
) -> list[dict[str, str]]:
    """Several rows a finished run, of its epochs or mixtures: settings and provenance, and the cells of each part.

    Raises:
        InputError: there is no run, or its files are damaged, or `parts_of` says so.
    """
    rows: list[dict[str, str]] = []
    for run in tqdm(all_runs(folders), desc="runs", disable=None, leave=False):
        summary = load_summary(run)
        if summary is None:
            continue
        try:
            parts = parts_of(run)
            cells = {**choices_and_settings(run.load_config()), **origin(summary["provenance"])}
            check_cells(cells)
            rows += [{**cells, **part} for part in parts]
        except InputError:
            raise
        except DAMAGE as error:
            raise damaged(run, error) from error
    return rows


def all_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Those in some folders, each a run's or one that holds runs.

    Raises:
        InputError: there is none.
    """
    runs = [run for folder in folders for run in find_runs(folder)]
    if not runs:
        raise InputError(f"{', '.join(map(str, folders))}: holds no runs (folders with a config.yaml)")
    return runs


def read_table(path: Path, columns: Sequence[str] = RUN_COLUMNS) -> pd.DataFrame:
    """A table that `write_table` wrote.

    Args:
        columns: those that it has to have.

    Raises:
        InputError: it isn't there, lacks a column, or holds something else than a number where one belongs.
    """
    try:
        rows = read_log(path)
    except (OSError, ValueError, csv.Error) as error:
        remedy = "python -m separation.studies collect writes such tables"
        raise InputError(f"{path}: can't be read ({error}); {remedy}") from error
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing:
        has_no = f"it has no {', '.join(missing)}"
        raise InputError(f"{path}: expected the columns {', '.join(columns)}; {has_no}; collect the runs again")
    for line, cells in enumerate(rows, start=2):
        try:
            check_cells(cells)
        except ValueError as error:
            raise InputError(f"{path}, line {line}, {error}") from error
    return typed(rows, columns)


def write_table(path: Path, table: pd.DataFrame, columns: Sequence[str] = RUN_COLUMNS) -> None:
    """Writes a table whole: choices and settings first, then results and provenance. Columns without a value are left
    out, but for `columns`."""
    kept = [name for name in table if name in columns or table[name].notna().any()]
    last = [*RESULTS, *PROVENANCE]
    ordered = [name for name in kept if name not in last] + [name for name in last if name in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        table[ordered].map(as_text).to_csv(temporary, index=False)


def as_text(value: Any) -> str:
    """A cell as people write it: 10 for 10.0, nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value)).removesuffix(".0")
    return str(value)


def check_cells(cells: dict[str, str]) -> None:
    """Raises ValueError where a text of a row isn't what its column holds; settings may be anything."""
    if None in cells or None in cells.values():
        raise ValueError("expected as many cells as there are columns")
    for name, text in cells.items():
        if not text and name in MAY_BE_EMPTY:
            continue
        if name in ("seed", "step") and not re.fullmatch(r"-?\d{1,18}", text):
            raise ValueError(f"{name}: expected a whole number, got {text!r}")
        if name in NUMBERS and not (text and isinstance(_value(text), float)):
            raise ValueError(f"{name}: expected a number, got {text!r}")
        if name in TEXTS and not text:
            raise ValueError(f"{name}: expected a text, got nothing")


def typed(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows of texts as a table: numbers are numbers, and empty cells NaN.

    Args:
        columns: of a table without rows.
    """
    cells = [{name: text if name in TEXTS and text else _value(text) for name, text in row.items()} for row in rows]
    table = pd.DataFrame(cells) if cells else pd.DataFrame(columns=columns)
    return table.astype({name: int for name in ("seed", "step") if name in table})


def _value(text: str) -> float | str:
    """A finite number, NaN for nothing, or the text."""
    try:
        number = float(text or "nan")
    except ValueError:
        return text
    return number if math.isfinite(number) or not text else text


def _row(run: RunFolder) -> dict[str, str] | None:
    """A run's cells, as texts; None where it isn't finished."""
    summary = load_summary(run)
    if summary is None or not run.epochs.is_file():
        return None
    config = run.load_config()
    try:
        cells = {**choices_and_settings(config), **_results(run, summary), **origin(summary["provenance"])}
        check_cells(cells)
        return cells
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


def choices_and_settings(config: DictConfig) -> dict[str, str]:
    """A run's choices, and the settings that its steps depend on by dotted name; of targets the last part."""
    [settings] = pd.json_normalize(OmegaConf.to_container(config, resolve=True)).to_dict("records")
    kept = {
        name: value.rpartition(".")[2] if name.endswith("_target_") else value
        for name, value in settings.items()
        if not name.startswith(MAY_CHANGE) and not _repeats(name, settings)
    }
    cells = {**{group: _choice(config, group) for group in CHOICES}, **kept}
    return {name: _as_cell(value) for name, value in cells.items() if value is not None}


def _repeats(name: str, settings: dict[str, Any]) -> bool:
    """Whether a part of the model only passes on a setting of the model: model.loss.alpha is model.alpha."""
    passed_on = re.sub(r"^model\.\w+\.", "model.", name)
    return passed_on != name and passed_on in settings and settings[passed_on] == settings[name]


def _as_cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choice(config: DictConfig, group: str) -> str:
    """What was chosen of a group. Runs of earlier versions don't say; there modules or classes are named alike."""
    if "choices" in config:
        return config.choices[group]
    module, _, name = (config.model.loss if group == "model" else config[group])._target_.rpartition(".")
    if group in ("data", "clip"):
        return module.rpartition(".")[2]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Loss")).lower()


def _results(run: RunFolder, summary: dict[str, Any]) -> dict[str, str]:
    """Scores, and what a run's logs say; step sizes are empty unless they were recorded."""
    epochs, steps = read_log(run.epochs), read_log(run.steps)
    sizes = [float(row["step_size"]) for row in read_log(run.dynamics)] if run.dynamics.is_file() else []
    sizes = sizes[len(sizes) // 4 :]  # less the rise of the first steps
    unknown = summary["splits"].get(TEST_UNKNOWN, {})
    return {
        "steps": epochs[-1]["step"],
        "num_mixtures": str(summary["num_mixtures"]),
        "si_sdr": f"{summary['si_sdr']:.4f}",
        "si_sdr_improvement": f"{summary['si_sdr_improvement']:.4f}",
        **{f"unknown_{name}": f"{unknown[name]:.4f}" if unknown else "" for name in ("si_sdr", "si_sdr_improvement")},
        "valid_loss": f"{min(float(epoch['valid/loss']) for epoch in epochs):.6g}",
        "clipped_fraction": f"{fmean(float(step['train/clip_coefficient']) < 1 for step in steps):.4f}",
        "skipped_steps": str(sum(int(float(epoch["train/skipped_steps"])) for epoch in epochs)),
        "step_size_mean": f"{fmean(sizes):.4g}" if sizes else "",
        "step_size_variance": f"{pvariance(sizes):.4g}" if sizes else "",
        "step_seconds": f"{median(float(step['train/seconds']) for step in steps):.4g}",
        "training_seconds": f"{float(epochs[-1]['seconds']):.0f}",
    }


def origin(provenance: dict[str, Any]) -> dict[str, str]:
    """Where a run comes from; of paths in its command only the last part."""
    command = re.sub(r"(?<==)\S*/", "", provenance["command"])
    return {**{name: str(provenance[name]) for name in PROVENANCE}, "command": command}
