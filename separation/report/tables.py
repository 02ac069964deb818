"""A report's tables, as texts: scores, what sets the runs apart, and speakers."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from separation.report.curves import splits
from separation.report.runs import ReportedRun, Variant
from separation.runs.summaries import decibels, familiarity

MOST_SPEAKERS = 200
"""Rows of a table."""
LEAST_DB = 0.05
"""Of a mixture's SI-SDR, to be told from none."""


class Table(NamedTuple):
    """A table whose rows' headings are runs (by number) or texts."""

    caption: str
    header: list[str]
    rows: dict[Any, list[str]]
    groups: Sequence[tuple[str, int]] = ()
    """Titles above so many columns each."""


def headline(runs: Sequence[ReportedRun]) -> Table:
    """Scores by split, best validation, steps and time: a row a run. A column that no run fills is left out, and so is
    SI-SDR where it is its improvement, since the mixtures have 0 dB."""
    columns: dict[tuple[str, str], Callable[[ReportedRun], str]] = {}
    for split in splits(runs):
        kinds = {familiarity(run.splits[split]) for run in runs if split in run.splits} - {""}
        group = f"{split} ({kinds.pop()})" if len(kinds) == 1 else split
        columns[group, "SI-SDR improvement [dB]"] = partial(_score, split, "si_sdr_improvement")
        scores = [run.splits[split] for run in runs if split in run.splits]
        if any(abs(each["si_sdr"] - each["si_sdr_improvement"]) >= LEAST_DB for each in scores):
            columns[group, "SI-SDR [dB]"] = partial(_score, split, "si_sdr")
    columns["best validation", "SI-SDR [dB]"] = partial(_best, "valid/si_sdr", np.nanmax, "{:.2f}")
    columns["best validation", "loss"] = partial(_best, "valid/loss", np.nanmin, "{:.4g}")
    columns["training", "steps clipped"] = _clipped
    columns["training", "length"] = lambda run: run.progress
    cells = {title: [text(run) for run in runs] for title, text in columns.items()}
    shown = [title for title, texts in cells.items() if any(texts)]
    rows = {number: [cells[title][number] for title in shown] for number in range(len(runs))}
    counts = Counter(group for group, _ in shown)
    return Table("Runs", [title for _, title in shown], rows, list(counts.items()))


def never_clipped(runs: Sequence[ReportedRun], variants: Sequence[Variant]) -> list[str]:
    """A sentence on each variant that has a threshold which no step came to, with the range of its gradient norms."""
    sentences = []
    for variant in variants:
        steps = [run.steps for run in (runs[number] for number in variant.numbers) if run.steps]
        clipped = any((table.get("train/clip_coefficient", np.zeros(1)) < 1).any() for table in steps)
        thresholds, norms = (
            np.concatenate([np.empty(0), *(table.get(column, np.empty(0)) for table in steps)])
            for column in ("train/clip_threshold", "train/grad_norm")
        )
        norms = norms[np.isfinite(norms)]
        if np.isfinite(thresholds).any() and len(norms) and not clipped:
            name = variant.name if len(variants) > 1 else f"clip={runs[0].settings.get('clip', '')}"
            sentences.append(f"{name} never clipped: gradient norms were {norms.min():.1g} to {norms.max():.1g}.")
    return sentences


def settings(runs: Sequence[ReportedRun]) -> Table:
    """What sets the runs apart: a row a run, a column a setting. Of a single run: nothing."""
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    header = [name for name in names if len({run.settings.get(name) for run in runs if run.settings}) > 1]
    rows = {number: [run.settings.get(name, "") for name in header] for number, run in enumerate(runs)}
    return Table("Settings that differ", header, rows)


def shared_settings(runs: Sequence[ReportedRun]) -> Table:
    """What all runs have alike: a row a setting."""
    known = [run.settings for run in runs if run.settings]
    shared = {name: [value] for name, value in (known[0] if known else {}).items()}
    alike = {name: value for name, value in shared.items() if all(each.get(name) == value[0] for each in known)}
    return Table("Settings of all runs" if len(runs) > 1 else "Settings", ["value"], alike)


def speakers(runs: Sequence[ReportedRun], split: str) -> Table:
    """Mean SI-SDR improvement in dB by speaker, over the mixtures that are scored whole: a column a run, the speakers
    that are hardest for the first run first."""
    means, counts = {}, {}
    for number, run in enumerate(runs):
        rows = run.scores[run.scores["split"] == split]
        whole = rows[rows["mixture"].isin(run.mixture_scores(split).index) & (rows["speaker"] != "")]
        if len(whole):
            of_speaker = whole.groupby("speaker")["si_sdr_improvement"]
            means[number], counts[number] = of_speaker.mean(), of_speaker.size()
    names = list(dict.fromkeys(name for mean in means.values() for name in mean.sort_values().index))[:MOST_SPEAKERS]
    rows_of = {
        name: [
            str(next(count[name] for count in counts.values() if name in count)),
            *(decibels(mean.get(name)) for mean in means.values()),
        ]
        for name in names
    }
    titles = [runs[number].name for number in means] if len(runs) > 1 else ["SI-SDR improvement [dB]"]
    return Table(f"Speakers of {split}", ["mixtures", *titles], rows_of)


def _score(split: str, key: str, run: ReportedRun) -> str:
    scores = run.splits.get(split)
    return decibels(scores[key]) if scores else ""


def _best(column: str, best: Callable[[np.ndarray], float], form: str, run: ReportedRun) -> str:
    values = run.epochs.get(column, np.empty(0))
    values = values[np.isfinite(values)]
    return form.format(best(values)) if len(values) else ""


def _clipped(run: ReportedRun) -> str:
    coefficients = run.steps.get("train/clip_coefficient")
    return "" if coefficients is None else f"{100 * float((coefficients < 1).mean()):.0f}%"
