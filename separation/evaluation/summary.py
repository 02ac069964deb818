"""Scores of single sources to a split's means, and to files."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from statistics import fmean
from typing import Any

from separation.errors import InputError
from separation.evaluation.oracles import ORACLES
from separation.runs import atomic_files

Row = dict[str, Any]
"""Scores of one source of a mixture, a row of `scores.csv`."""


def summarize(rows: list[Row], trained_on: Collection[str] | None = None) -> dict[str, Any]:
    """Means over a split's mixtures and sources, in dB, and which mixtures they are of.

    A mixture counts whole or not at all: where one source has no score, the others' have nothing beside them to be
    separated from.

    Args:
        trained_on: the training speakers; None: unknown.

    Raises:
        InputError: no mixture has all scores.
    """
    mixtures: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        mixtures[row["mixture"]].append(row)
    scored = [group for group in mixtures.values() if not any(math.isnan(row["si_sdr_improvement"]) for row in group)]
    if not scored:
        raise InputError(f"data: none of the {len(mixtures)} mixtures of the {rows[0]['split']} split can be scored")
    kept = [row for group in scored for row in group]
    scores = [name for name, value in rows[0].items() if isinstance(value, float)]
    # An oracle may have no score where the model has one: its own mean goes without.
    values = {name: [row[name] for row in kept if not math.isnan(row[name])] for name in scores}
    means = {name: fmean(numbers) if numbers else None for name, numbers in values.items()}
    oracle = {name: means.pop(f"oracle_{name}") for name in ORACLES}
    speakers = {row["speaker"] for row in kept} - {""}
    return {
        "num_mixtures": len(scored),
        "num_not_scored": len(mixtures) - len(scored),
        "num_speakers": len(speakers),
        "num_known_speakers": None if trained_on is None else len(speakers & set(trained_on)),
        **means,
        "oracle": oracle,
    }


def write_scores(path: Path, rows: list[Row]) -> None:
    """Writes `scores.csv` whole."""
    with atomic_files.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json` whole."""
    atomic_files.write_text(path, json.dumps(summary, indent=2) + "\n")
