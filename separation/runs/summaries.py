"""Run folders to tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from separation.runs.run_folder import RunFolder, short_names

ORACLE_TITLES = {
    "ideal_binary": "ideal binary mask",
    "ideal_ratio": "ideal ratio mask",
    "wiener_like": "Wiener-like mask",
    "phase_sensitive": "phase-sensitive mask",
}

LARGEST_SUMMARY = 1_000_000
"""In bytes."""


def load_summary(folder: RunFolder) -> dict[str, Any] | None:
    """A run's `summary.json`, or None where it isn't there, whole."""
    try:
        if not folder.summary.is_file() or folder.summary.stat().st_size > LARGEST_SUMMARY:
            return None
        summary = json.loads(folder.summary.read_text(encoding="utf-8"))
        for scores in summary["splits"].values():
            float(scores["si_sdr"] + scores["si_sdr_improvement"] + scores["num_mixtures"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return summary


def find_runs(root: Path) -> list[RunFolder]:
    """Every run folder below `root`, finished or not, sorted by path."""
    return [RunFolder(file.parent) for file in sorted(root.rglob("config.yaml")) if file.is_file()]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text columns: the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in [header, *rows]:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *others]))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def decibels(value: float | None) -> str:
    """Two digits, and no minus before a zero; a dash where there is no score."""
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def familiarity(scores: dict[str, Any]) -> str:
    """Whether the network heard a split's speakers in training; empty where nobody knows."""
    known, count = scores.get("num_known_speakers"), scores.get("num_speakers", 0)
    if not count or known is None:
        return ""
    return "known speakers" if known == count else f"{known} of {count} speakers known" if known else "unknown speakers"


def score_table(splits: dict[str, dict[str, Any]]) -> str:
    """One run's scores: a column for each test split, the mixture and the oracles beside the model."""
    columns = list(splits.values())
    rows = [
        ["mixture", *(decibels(column["input_si_sdr"]) for column in columns)],
        ["model", *(decibels(column["si_sdr"]) for column in columns)],
        ["model's improvement", *(decibels(column["si_sdr_improvement"]) for column in columns)],
    ]
    for name, title in ORACLE_TITLES.items():
        rows.append([title, *(decibels(column["oracle"][name]) for column in columns)])
    for name, title in {"sdr": "SDR", "sir": "SIR", "sar": "SAR"}.items():
        if f"bss_eval_{name}" in columns[0]:
            rows.append([f"model's {title} (BSS Eval)", *(decibels(column[f"bss_eval_{name}"]) for column in columns)])
    header = ["SI-SDR [dB]"]
    for name, column in splits.items():
        missing = column.get("num_not_scored")
        count = f"{column['num_mixtures']} mixtures" + (f", {missing} not scored" if missing else "")
        header.append(f"{_title(name, [column])}, {count}")
    return table(header, rows)


def runs_table(folders: Sequence[RunFolder], root: Path) -> str:
    """Several runs' SI-SDR improvement in dB, a row each; a run without scores shows as unfinished.

    A run's name is its folder below `root`, less the overrides that all of them share.
    """
    summaries = {folder.path: load_summary(folder) for folder in folders}
    splits = list(dict.fromkeys(split for summary in summaries.values() if summary for split in summary["splits"]))
    names = short_names([path.relative_to(root).as_posix() for path in summaries])
    titles = [
        _title(split, [summary["splits"].get(split) for summary in summaries.values() if summary]) for split in splits
    ]
    rows = []
    for name, summary in zip(names, summaries.values(), strict=True):
        scores = [summary["splits"].get(split) if summary else None for split in splits]
        cells = [decibels(score["si_sdr_improvement"]) if score else "-" for score in scores]
        rows.append([name, *cells, "done" if summary else "unfinished"])
    return table(["SI-SDR improvement [dB]", *titles, "state"], rows)


def _title(split: str, scores: Sequence[dict[str, Any] | None]) -> str:
    """A split's name, and whose voices it has where that is the same in all runs."""
    kinds = {familiarity(each) for each in scores if each}
    return f"{split} ({kinds.pop()})" if len(kinds) == 1 and kinds != {""} else split
