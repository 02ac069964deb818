"""Runs' scores side by side: a table a test split, a row a run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from separation.errors import InputError
from separation.runs.run_folder import short_names
from separation.runs.summaries import OPTIONAL_TITLES, decibels, load_summary, score_at
from separation.studies.run_table import all_runs
from separation.studies.table_formats import Report

COLUMNS: dict[str, tuple[str, ...]] = {
    "SI-SDR [dB]": ("si_sdr",),
    "improvement [dB]": ("si_sdr_improvement",),
    "median": ("statistics", "si_sdr_improvement", "median"),
    "5th percentile": ("statistics", "si_sdr_improvement", "percentile_5"),
    **{title: (key,) for key, title in OPTIONAL_TITLES.items()},
}
"""Where a split's summary has what is shown; a column that no run has is left out."""


class RunScores:
    """The scores of runs, whatever they trained.

    Args:
        folders: runs, or folders of runs.

    Raises:
        InputError: there is no run.

    Attributes:
        of: each run's summaries by split, under its name: its path below what all share, less the overrides that all
            share; empty where it isn't finished.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        paths = {run.path.resolve(): run for run in all_runs(folders)}
        root = Path(os.path.commonpath([path.parent for path in paths]))
        names = short_names([path.relative_to(root).as_posix() for path in paths])
        summaries = [load_summary(run) for run in paths.values()]
        self.of = {name: summary["splits"] if summary else {} for name, summary in zip(names, summaries, strict=True)}

    def report(self) -> Report:
        """A table a split."""
        if not any(self.of.values()):
            raise InputError(f"{', '.join(self.of)}: no run has scores; train.py and evaluate.py write them")
        splits = dict.fromkeys(split for run in self.of.values() for split in run)
        tables = {split: self._table(split) for split in splits}
        unfinished = [name for name, run in self.of.items() if not run]
        notes = ["Means over the test mixtures; median and 5th percentile are of the mixtures' improvement"]
        return Report(tables, notes + [f"NO SCORES: {name}" for name in unfinished], "split")

    def _table(self, split: str) -> pd.DataFrame:
        rows: dict[str, dict[str, Any]] = {}
        for name, run in self.of.items():
            if split in run:
                scores = {title: score_at(run[split], *keys) for title, keys in COLUMNS.items()}
                rows[name] = {**scores, "mixtures": run[split]["num_mixtures"]}
        table = pd.DataFrame.from_dict(rows, orient="index").dropna(axis="columns", how="all")
        return pd.DataFrame({name: [_cell(value) for value in table[name]] for name in table}, index=table.index)


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, int) else decibels(None if pd.isna(value) else value)
