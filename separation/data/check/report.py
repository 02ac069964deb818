"""An inspected corpus as numbers, as text and as a figure."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from separation.data.check.findings import Finding, duplicates, findings, is_across, is_silent, shared_speakers
from separation.data.check.measure import LEAST_DB, Inspection, Measured, decibels
from separation.data.corpora.corpus import SPLITS, TRAIN
from separation.runs.summaries import table

QUANTITIES = {
    "length_s": "length [s]",
    "level_db": "level [dB of full scale]",
    "noise_floor_db": "noise floor [dB of the speech]",
    "level_difference_db": "level difference [dB]",
    "scored_level_db": "loudest 0.1 s [dB of its recording]",
    "correlation": "largest correlation within 0.1 s",
}
TITLES = {
    "length_s": "Length of recordings",
    "level_db": "RMS level of recordings",
    "noise_floor_db": "Quietest moments of speech",
    "level_difference_db": "Between a mixture's sources",
    "scored_level_db": "Sources where test mixtures are scored",
    "correlation": "Between test mixtures' sources",
}
QUANTILES = {"smallest": 0, "25%": 25, "median": 50, "75%": 75, "largest": 100}
MOST_BINS = 40
Distributions = dict[str, dict[str, np.ndarray]]
"""By quantity and split: a value for each recording or mixture, where there are any."""


def distributions(inspection: Inspection) -> Distributions:
    """How recordings and mixtures are spread, in the quantities of `QUANTITIES`."""
    values: dict[str, dict[str, list[float]]] = {quantity: {} for quantity in QUANTITIES}

    def add(quantity: str, split: str, value: float) -> None:
        values[quantity].setdefault(split, []).append(value)

    for recording in inspection.recordings:
        utterance = recording.utterance
        add("length_s", utterance.split, utterance.num_samples / inspection.store.sample_rate)
        add("level_db", utterance.split, decibels(utterance.rms))
        if utterance.speaker and math.isfinite(recording.noise_floor_db):
            add("noise_floor_db", utterance.split, recording.noise_floor_db)
    levels = {utterance.name: utterance.rms for utterance in inspection.store.utterances}
    for split, rows in inspection.lists.items():
        for row in rows:
            levels_of_sources = [gain * levels[name] for gain, name in zip(row.gains, row.sources, strict=False)]
            add("level_difference_db", split, decibels(max(levels_of_sources) / min(levels_of_sources)))
    for split, mixtures in inspection.scored.items():
        for mixture in mixtures:
            for level in mixture.levels_db:
                add("scored_level_db", split, max(LEAST_DB, level))
            add("correlation", split, mixture.correlation)
    return {
        quantity: {split: np.array(by_split[split]) for split in SPLITS if split in by_split}
        for quantity, by_split in values.items()
    }


def summary(inspection: Inspection) -> dict[str, Any]:
    """The report's numbers, plain values for JSON."""
    groups = duplicates(inspection.store.utterances)
    across = sum(map(is_across, groups))
    return {
        "corpus": inspection.corpus.name,
        "sample_rate": inspection.corpus.sample_rate,
        "splits": {split: _split(inspection, split) for split in SPLITS if _recordings(inspection, split)},
        "formats": [
            {"sample_rate": rate, "channels": channels, "files": count}
            for (rate, channels), count in inspection.formats.most_common()
        ],
        "distributions": {
            quantity: {
                split: {name: float(np.percentile(values, percent)) for name, percent in QUANTILES.items()}
                for split, values in by_split.items()
            }
            for quantity, by_split in distributions(inspection).items()
        },
        "shared_speakers": {
            f"{one} and {other}": len(names)
            for (one, other), names in shared_speakers(inspection.store.utterances).items()
        },
        "duplicates": {"across_splits": across, "within_a_split": len(groups) - across},
        "findings": [finding._asdict() for finding in findings(inspection)],
    }


def _recordings(inspection: Inspection, split: str) -> list[Measured]:
    return [recording for recording in inspection.recordings if recording.utterance.split == split]


def _split(inspection: Inspection, split: str) -> dict[str, Any]:
    recordings = _recordings(inspection, split)
    sums = inspection.sums.get(split, [])
    errors = [check.error_db for check in sums if math.isfinite(check.error_db)]
    num_samples = sum(recording.utterance.num_samples for recording in recordings)
    return {
        "recordings": len(recordings),
        "speakers": len({recording.utterance.speaker for recording in recordings} - {""}),
        "hours": num_samples / inspection.store.sample_rate / 3600,
        "mixtures": len(inspection.lists[split]) if split in inspection.lists else None,
        "published_mixtures": inspection.corpus.published.get(split),
        "checked_mixtures": len(sums),
        "wrong_mixtures": sum(bool(check.problem) for check in sums),
        "largest_error_db": max(errors, default=None),
        "clipped": sum(recording.is_clipped for recording in recordings),
        "nearly_silent": sum(is_silent(recording.utterance) for recording in recordings),
        "damaged": sum(recording.is_damaged for recording in recordings),
    }


def report(numbers: dict[str, Any]) -> str:
    """The text of a `summary`: tables, then the findings."""
    splits = numbers["splits"]
    parts = [
        f"{numbers['corpus']} at {numbers['sample_rate']} Hz",
        _table(
            ["split", "recordings", "speakers", "hours", "mixtures", "published"],
            [
                [split, row["recordings"], row["speakers"], row["hours"], row["mixtures"], row["published_mixtures"]]
                for split, row in splits.items()
            ],
        ),
        _table(
            ["sample rate of files [Hz]", "channels", "files"],
            [[str(row["sample_rate"]), row["channels"], row["files"]] for row in numbers["formats"]],
        ),
        *(
            _table(
                [QUANTITIES[quantity], *QUANTILES],
                [[split, *(float(value) for value in row.values())] for split, row in by_split.items()],
            )
            for quantity, by_split in numbers["distributions"].items()
        ),
        _table(
            ["mixtures and sums of sources", "checked", "wrong", "largest error [dB]"],
            [
                [split, row["checked_mixtures"], row["wrong_mixtures"], row["largest_error_db"]]
                for split, row in splits.items()
                if row["checked_mixtures"]
            ],
        ),
        _table(
            ["recordings", "clipped", "clipped [%]", "nearly silent", "damaged"],
            [
                [split, row["clipped"], 100 * row["clipped"] / row["recordings"], row["nearly_silent"], row["damaged"]]
                for split, row in splits.items()
            ],
        ),
        _table(["same samples", "groups"], [[key.replace("_", " "), n] for key, n in numbers["duplicates"].items()]),
        _table(["speakers in both", "number"], [[pair, count] for pair, count in numbers["shared_speakers"].items()]),
        _findings([Finding(**finding) for finding in numbers["findings"]]),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(header: list[str], rows: Sequence[Sequence[Any]]) -> str:
    """Empty without rows."""
    return table(header, [[_cell(value) for value in row] for row in rows]) if rows else ""


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _findings(listed: list[Finding]) -> str:
    """What is wrong, then remarks."""
    if not listed:
        return "Nothing is wrong."
    wrong = [f"- {finding.sentence}" for finding in listed if finding.is_wrong]
    remarks = [f"- {finding.sentence}" for finding in listed if not finding.is_wrong]
    lines = ["Wrong, and so would scores be:", *wrong] if wrong else ["Nothing is wrong."]
    return "\n".join([*lines, *(["Remarks:", *remarks] if remarks else [])])


def check_figure(spread: Distributions) -> Figure:
    """Histograms of every quantity that there is, a colour a split."""
    shown = {quantity: by_split for quantity, by_split in spread.items() if by_split}
    columns = 2 if len(shown) == 4 else min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, (quantity, by_split) in zip(axes.flat, shown.items(), strict=False):
        _histogram(axis, by_split)
        axis.set_title(TITLES[quantity], fontsize=10)
        axis.set_xlabel(QUANTITIES[quantity])
    for row in axes:
        row[0].set_ylabel("share of the split [%]")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def _histogram(axis: Axes, by_split: dict[str, np.ndarray]) -> None:
    values = np.concatenate(list(by_split.values()))
    edges = np.histogram_bin_edges(values, min(MOST_BINS, math.ceil(math.sqrt(len(values)))))
    for split, values_of_split in by_split.items():
        share = 100 * np.histogram(values_of_split, edges)[0] / len(values_of_split)
        number = SPLITS.index(split)
        if split == TRAIN:
            axis.stairs(share, edges, color="C0", alpha=0.15, fill=True)
        # Thinner from split to split, so that none hides behind another.
        axis.stairs(share, edges, color=f"C{number}", linewidth=2.8 - 0.6 * number, label=split)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.grid(alpha=0.3)
