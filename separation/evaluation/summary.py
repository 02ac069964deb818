"""Scores of single sources to a split's means, and to files."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from types import MappingProxyType
from typing import Any

import numpy as np

from separation.errors import InputError
from separation.evaluation.oracles import ORACLES
from separation.runs import atomic_files

Row = dict[str, Any]
"""Scores of one source of a mixture, a row of `scores.csv`."""


def by_mixture(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """A split's rows by the mixture's name, in their order."""
    mixtures: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        mixtures[row["mixture"]].append(row)
    return mixtures


def summarize(
    rows: list[Row], trained_on: Collection[str] | None = None, sexes: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Means over a split's mixtures and sources, SI-SDR and BSS Eval in dB, and which mixtures they are of.

    A mixture counts whole or not at all: where one source has no score, the others' have nothing beside them to be
    separated from. `statistics` are over mixtures, each by the mean over its sources.

    Args:
        trained_on: the training speakers; None: unknown.
        sexes: see `Corpus.sexes`.

    Raises:
        InputError: no mixture has all scores.
    """
    mixtures = by_mixture(rows)
    scored = [group for group in mixtures.values() if _is_whole(group, "si_sdr_improvement")]
    if not scored:
        raise InputError(f"data: none of the {len(mixtures)} mixtures of the {rows[0]['split']} split can be scored")
    kept = [row for group in scored for row in group]
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    of_name = {name: [group for group in scored if _is_whole(group, name)] for name in names if "oracle" not in name}
    speakers = {row["speaker"] for row in kept} - {""}
    return {
        "num_mixtures": len(scored),
        "num_not_scored": len(mixtures) - len(scored),
        "num_speakers": len(speakers),
        "num_known_speakers": None if trained_on is None else len(speakers & set(trained_on)),
        **{name: _mean(name, [row for group in groups for row in group]) for name, groups in of_name.items()},
        # An oracle may have no score where the model has one: its own mean goes without.
        "oracle": {name: _mean(f"oracle_{name}", kept) for name in ORACLES},
        "statistics": {name: _statistics(name, groups) for name, groups in of_name.items()},
        "pairs": _pairs(scored, sexes),
        "speakers": {
            speaker: {"sex": sexes.get(speaker), **_means([row for row in kept if row["speaker"] == speaker])}
            for speaker in sorted(speakers)
        },
    }


def _is_whole(group: list[Row], name: str) -> bool:
    """Whether all sources of a mixture have a score."""
    return not any(math.isnan(row[name]) for row in group)


def _mean(name: str, rows: list[Row]) -> float | None:
    """Over the sources that have a score; None where none has."""
    values = [row[name] for row in rows if not math.isnan(row[name])]
    return fmean(values) if values else None


def _means(rows: list[Row]) -> dict[str, Any]:
    return {"num_sources": len(rows), **{name: _mean(name, rows) for name in ("si_sdr", "si_sdr_improvement")}}


def _statistics(name: str, mixtures: list[list[Row]]) -> dict[str, Any]:
    """How mixtures spread around their mean; the deviation is that of a sample (n - 1)."""
    values = [fmean(row[name] for row in group) for group in mixtures]
    return {
        "num_mixtures": len(values),
        "std": stdev(values) if len(values) > 1 else None,
        "median": median(values) if values else None,
        "percentile_5": float(np.percentile(values, 5)) if values else None,
    }


def _pairs(mixtures: list[list[Row]], sexes: Mapping[str, str]) -> dict[str, Any]:
    """Means by the sexes of a mixture's speakers, as FF, FM and MM, where all of them are known."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for group in mixtures:
        if all(row["speaker"] in sexes for row in group):
            rows["".join(sorted(sexes[row["speaker"]] for row in group))] += group
    return {pair: _means(rows[pair]) for pair in sorted(rows)}


def write_scores(path: Path, rows: list[Row]) -> None:
    """Writes `scores.csv` whole."""
    with atomic_files.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json` whole."""
    atomic_files.write_text(path, json.dumps(summary, indent=2) + "\n")
