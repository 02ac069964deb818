"""Run folders to tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from separation.runs.run_folder import RunFolder, short_names

MODEL = "model"
"""Whose scores a summary has: a trained model's, or those of one of `ORACLE_TITLES`, or of the mixture as it is."""
ORACLE_TITLES = {
    "ideal_binary": "ideal binary mask",
    "ideal_ratio": "ideal ratio mask",
    "wiener_like": "Wiener-like mask",
    "phase_sensitive": "phase-sensitive mask",
}

OPTIONAL_TITLES = {
    **{f"bss_eval_{name}": f"{name.upper()} (BSS Eval) [dB]" for name in ("sdr", "sir", "sar")},
    **{"stoi": "STOI", "estoi": "ESTOI", "pesq": "PESQ [MOS-LQO]"},
}
"""Scores that a summary may have."""
STATISTICS = {"median": "median", "percentile_5": "5th percentile", "std": "standard deviation"}

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
            dict(scores.get("pairs", {}))
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


def score_table(splits: dict[str, dict[str, Any]], estimator: str = MODEL) -> str:
    """One run's scores: a column for each test split, the mixture and the oracles beside the model.

    Args:
        estimator: whose scores they are: `MODEL`, or an oracle's name.
    """
    columns = list(splits.values())

    def line(title: str, *keys: str) -> list[str]:
        return [title, *(decibels(score_at(column, *keys)) for column in columns)]

    name, whose = "model", "model's"
    if estimator != MODEL:
        name, whose = f"oracle: {ORACLE_TITLES.get(estimator, estimator)}", "oracle's"
    rows = [line("mixture", "input_si_sdr"), line(name, "si_sdr"), line(f"{whose} improvement", "si_sdr_improvement")]
    if all("statistics" in column for column in columns):
        rows += [line(f"  {title}", "statistics", "si_sdr_improvement", key) for key, title in STATISTICS.items()]
    for pair in sorted({pair for column in columns for pair in column.get("pairs", {})}):
        rows.append(line(f"  {pair}", "pairs", pair, "si_sdr_improvement"))
    rows += [line(title, "oracle", key) for key, title in ORACLE_TITLES.items() if key != estimator]
    for key, title in OPTIONAL_TITLES.items():
        if key in columns[0]:
            rows += [line(f"mixture's {title}", f"input_{key}")] if f"input_{key}" in columns[0] else []
            rows.append([f"{whose} {title}", *(_with_count(column, key) for column in columns)])
    rows.append(["mixtures", *(str(column["num_mixtures"]) for column in columns)])
    if any(column.get("num_not_scored") for column in columns):
        rows.append(["not scored", *(str(column.get("num_not_scored", 0)) for column in columns)])
    if any(map(familiarity, columns)):
        rows.append(["speakers", *(familiarity(column).replace(" speakers", "") or "-" for column in columns)])
    return table(["SI-SDR [dB]", *splits], rows)


def _with_count(scores: dict[str, Any], key: str) -> str:
    """A score, and of how many mixtures it is the mean where they aren't all that have SI-SDR."""
    count = score_at(scores, "statistics", key, "num_mixtures")
    some = "" if count in (None, scores["num_mixtures"]) else f" ({count} mixtures)"
    return decibels(score_at(scores, key)) + some


def score_at(scores: dict[str, Any], *keys: str) -> float | None:
    """A finite number below some keys of a summary; None where there is none."""
    value: Any = scores
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) and abs(value) < 1e15 else None


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
    return f"{split} ({kinds.pop().replace(' speakers', '')})" if len(kinds) == 1 and kinds != {""} else split
