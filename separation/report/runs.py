"""What a report knows of its runs. What a run lacks is left out, and what is damaged becomes a sentence on the page."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from separation.errors import InputError
from separation.runs.paths import printable
from separation.runs.run_folder import RunFolder, short_names
from separation.runs.summaries import load_summary
from separation.studies.run_figures import read_columns, seeds_together
from separation.studies.run_table import DAMAGE, all_runs, choices_and_settings, origin, read_log

SCORE_COLUMNS = ("split", "mixture", "source", "speaker", "si_sdr", "si_sdr_improvement")
T = TypeVar("T")
Columns = dict[str, np.ndarray]
"""A table of numbers, an array a column; empty where the run has none."""


@dataclass
class ReportedRun:
    """A run as far as it got.

    Attributes:
        name: its path below what all runs share, less the overrides that all share.
        settings: by dotted name, as texts; `max_steps` among them.
        scores: a row a mixture and source, with the columns `SCORE_COLUMNS`; SI-SDR in dB.
        problems: sentences on what can't be read.
    """

    name: str
    folder: RunFolder
    settings: dict[str, str] = field(default_factory=dict)
    max_steps: int | None = None
    summary: dict[str, Any] | None = None
    steps: Columns = field(default_factory=dict)
    epochs: Columns = field(default_factory=dict)
    dynamics: Columns = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SCORE_COLUMNS))
    provenance: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """The summary's scores by split."""
        return self.summary["splits"] if self.summary else {}

    @property
    def progress(self) -> str:
        """As in "3,000 steps, 12 min", or "400 of 3,000 steps, 2 min, unfinished"."""
        done = max((int(table["step"][-1]) for table in (self.steps, self.epochs) if table), default=0)
        of = f" of {self.max_steps:,}" if self.max_steps and not self.summary else ""
        parts = [f"{done:,}{of} steps"] if done else []
        seconds = self.epochs["seconds"][-1] if "seconds" in self.epochs else np.nan
        if np.isfinite(seconds):
            parts.append(f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min")
        return ", ".join([*parts, *([] if self.summary else ["unfinished"])])

    def mixture_scores(self, split: str) -> pd.Series:
        """SI-SDR improvement in dB by mixture, the mean over its sources; those that are scored whole."""
        rows = self.scores[self.scores["split"] == split]
        means = rows.groupby("mixture", sort=False)["si_sdr_improvement"].agg(lambda values: values.mean(skipna=False))
        return means.astype(float).dropna()


def read_runs(paths: Sequence[Path]) -> list[ReportedRun]:
    """Runs, and those in folders of runs, each once: the best SI-SDR improvement first, unfinished ones last.

    Raises:
        InputError: there is none.
    """
    folders = {folder.path.resolve(): folder for folder in all_runs(paths)}
    root = Path(os.path.commonpath([path.parent for path in folders]))
    names = short_names([path.relative_to(root).as_posix() for path in folders])
    runs = [_read(printable(name), folder) for name, folder in zip(names, folders.values(), strict=True)]
    return sorted(runs, key=_rank)


@dataclass(frozen=True)
class Variant:
    """Runs, by their numbers, that differ in the seed alone; or a single run."""

    name: str
    numbers: list[int]


def variants(runs: Sequence[ReportedRun]) -> list[Variant]:
    """All runs, those together whose names and settings differ in the seed alone; that of the first run first."""
    found: list[Variant] = []
    for name, numbers in seeds_together([run.name for run in runs]).items():
        first, *others = ({**runs[number].settings, "seed": ""} for number in numbers)
        if others and all(settings == first for settings in others):
            found.append(Variant(name, numbers))
        else:
            found += [Variant(runs[number].name, [number]) for number in numbers]
    return sorted(found, key=lambda variant: variant.numbers[0])


def _rank(run: ReportedRun) -> float:
    scores = run.splits.get("test") or next(iter(run.splits.values()), None)
    return -scores["si_sdr_improvement"] if scores else math.inf


def _read(name: str, folder: RunFolder) -> ReportedRun:
    run = ReportedRun(name, folder, summary=load_summary(folder))
    if folder.summary.is_file() and run.summary is None:
        run.problems.append(f"{name}: its summary.json is damaged; python evaluate.py writes it again")

    def attempt(path: Path, read: Callable[[Path], T], otherwise: T) -> T:
        if not path.is_file():
            return otherwise
        try:
            return read(path)
        except (*DAMAGE, OSError) as error:
            reason = str(error).replace(f"{path}: ", "", 1) if isinstance(error, InputError) else f"damaged ({error})"
            run.problems.append(f"{name}: {path.name} is left out: {printable(' '.join(reason.split())[:300])}")
            return otherwise

    unknown: tuple[dict[str, str], int | None] = {}, None
    run.settings, run.max_steps = attempt(folder.config, lambda _: _settings(folder), unknown)
    run.steps = attempt(folder.steps, partial(_curves, "train/loss", "train/grad_norm", "train/clip_threshold"), {})
    run.epochs = attempt(folder.epochs, partial(_curves, "valid/loss"), {})
    run.dynamics = attempt(folder.dynamics, partial(_curves, "step_size"), {})
    run.scores = attempt(folder.scores, _scores, run.scores)
    run.provenance = (
        attempt(folder.summary, lambda _: origin((run.summary or {})["provenance"]), {}) if run.summary else {}
    )
    return run


def _settings(folder: RunFolder) -> tuple[dict[str, str], int | None]:
    config = folder.load_config()
    return choices_and_settings(config), config.trainer.max_steps


def _curves(*arguments: Any) -> Columns:
    """A table whose steps rise and which has the columns that are named before its path."""
    *needed, path = arguments
    table = read_columns(path)
    missing = {"step", *needed} - set(table)
    if missing:
        raise InputError(f"it has no column {', '.join(sorted(missing))}")
    if not ((np.diff(table["step"], prepend=0) > 0).all() and table["step"][-1] < 1e12):
        raise InputError("its steps don't rise from 1 on")
    return table


def _scores(path: Path) -> pd.DataFrame:
    rows = [{name: row[name] for name in SCORE_COLUMNS} for row in read_log(path)]
    if not rows:
        raise InputError("holds no rows")
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    return table.astype({"source": int, "si_sdr": float, "si_sdr_improvement": float})
