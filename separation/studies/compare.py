"""Two runs on the same mixtures: their scores mixture by mixture, the mean difference and what chance leaves of it."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import scipy.stats

from separation.data.corpora.file_corpus import named
from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import MODEL, OPTIONAL_TITLES, ORACLE_TITLES, load_summary
from separation.studies.intervals import bootstrap
from separation.studies.table_formats import Report

KEYS = ["split", "mixture"]
METRICS = {"si_sdr": "SI-SDR [dB]", "si_sdr_improvement": "SI-SDR improvement [dB]", **OPTIONAL_TITLES}
"""Columns of scores.csv that can be compared, as titles."""
SAME_LEVEL = 0.05
"""In dB: what two ways of computing the mixtures' own SI-SDR may differ by."""

FEWEST = 10
"""Mixtures for an interval: a bootstrap's is too narrow where there are few."""


def load_scores(run: Path, metric: str) -> pd.DataFrame:
    """A row for each mixture of a run's scores.csv: `split`, `mixture`, `score` and `input_si_sdr`, means over its
    sources that are NaN where one has none; `sources`, which utterances they are; `pair`, the speakers' sexes where the
    run's summary knows them.

    Raises:
        InputError: there are no such scores, or they are damaged.
    """
    path = RunFolder(run).scores
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        columns = {*KEYS, "source", "utterance", "speaker", "num_samples", "input_si_sdr", metric}
        if missing := sorted(columns - {*rows}):
            raise InputError(f"{path}: has no column {', '.join(missing)}; {_remedy(run, metric)}")
        values = {name: rows[name].replace("", "nan").astype(float) for name in (metric, "input_si_sdr")}
        rows = rows.assign(score=values[metric], input_si_sdr=values["input_si_sdr"])
    except (OSError, csv.Error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: can't be read ({reason}); give folders that train.py or evaluate.py wrote"
        ) from error
    if rows.empty or rows.duplicated([*KEYS, "source"]).any():
        raise InputError(f"{path}: holds no rows, or a source twice; score the run again")
    sexes = _sexes(run)
    rows["sex"] = [sexes.get(key, "") for key in zip(rows["split"], rows["speaker"], strict=True)]
    rows["part"] = rows["utterance"] + " " + rows["num_samples"]
    groups = rows.groupby(KEYS, sort=False)
    means = groups[["score", "input_si_sdr"]].agg(lambda values: values.mean(skipna=False))
    texts = groups.agg(sources=("part", ", ".join), pair=("sex", _pair))
    return means.join(texts).reset_index()


def _remedy(run: Path, metric: str) -> str:
    key = "bss_eval" if metric.startswith("bss_eval") else metric.removeprefix("e")
    return (
        f"python evaluate.py run={run} {key}=true adds one" if key in ("bss_eval", "stoi", "pesq") else "score it again"
    )


def _sexes(run: Path) -> dict[tuple[str, str], str]:
    """By split and speaker, as far as the run's summary knows them."""
    splits = (load_summary(RunFolder(run)) or {}).get("splits", {})
    try:
        return {
            (split, speaker): str(scores["sex"])
            for split, of_split in splits.items()
            for speaker, scores in of_split.get("speakers", {}).items()
            if scores["sex"] in ("F", "M")
        }
    except (AttributeError, KeyError, TypeError):
        return {}  # a damaged summary knows none


def _pair(sexes: Sequence[str]) -> str:
    return "".join(sorted(sexes)) if all(sexes) else ""


def run_name(run: Path) -> str:
    """A run's folder, and which oracle's its scores are."""
    estimator = (load_summary(RunFolder(run)) or {}).get("estimator", MODEL)
    title = "" if estimator == MODEL else f" (oracle: {ORACLE_TITLES.get(estimator, estimator)})"
    return f"{run.resolve().name}{title}"


class Comparison:
    """Two runs' scores of the same mixtures, A's and B's.

    Args:
        runs: two folders with a scores.csv.
        metric: its column, one of `METRICS`.

    Raises:
        InputError: the runs weren't scored on the same mixtures.

    Attributes:
        names: the runs'.
        scores: a row for each mixture that both have a score of: `split`, `mixture`, `pair`, `a` and `b`.
    """

    def __init__(self, runs: tuple[Path, Path], metric: str = "si_sdr") -> None:
        if metric not in METRICS:
            raise InputError(f"--metric {metric}: expected one of {', '.join(METRICS)}")
        self.metric = metric
        self.names = [run_name(run) for run in runs]
        tables = [load_scores(run, metric) for run in runs]
        merged = tables[0].merge(tables[1], "outer", KEYS, sort=False, suffixes=("", "_b"), indicator=True)
        both = merged[merged["_merge"] == "both"]
        which = " and ".join(map(str, runs))
        if both.empty:
            raise InputError(f"{which}: have no mixture in common; score them on the same test mixtures")
        _check_same(both, which)
        self.only_in_one = merged.loc[merged["_merge"] != "both", "mixture"].tolist()
        both = both.rename(columns={"score": "a", "score_b": "b"})[[*KEYS, "pair", "a", "b"]]
        self.scores = both.dropna(subset=["a", "b"])
        self.without_score = both.loc[~both.index.isin(self.scores.index), "mixture"].tolist()
        if self.scores.empty:
            raise InputError(f"{which}: no mixture has {METRICS[metric]} in both; score them again")

    def report(self) -> Report:
        """A table a split: all mixtures, and those of each pair of sexes where they are known."""
        tables = {}
        for split, of_split in self.scores.groupby("split", sort=False):
            groups = {"all": of_split} | {pair: rows for pair, rows in of_split.groupby("pair") if pair}
            tables[str(split)] = pd.DataFrame.from_dict(
                {f"{name} ({len(rows)})": self._cells(rows) for name, rows in groups.items()}, orient="index"
            )
        notes = [
            f"{METRICS[self.metric]}, mean over a mixture's sources. A: {self.names[0]}; B: {self.names[1]}",
            "Interval: 95%, by a bootstrap over the mixtures as if they were independent, of ten or more: it speaks of"
            " other mixtures of such speakers by these two networks. It doesn't contain the chance of training: with"
            " another seed the difference may be another (python -m separation.studies mixtures RUNS compares over"
            " seeds). p: Wilcoxon's signed-rank test, two-sided",
        ]
        for names, what in ((self.only_in_one, "in one run only"), (self.without_score, "without a score in one")):
            notes += [f"LEFT OUT: {len(names)} mixtures {what}: {named(names, ', ')}"] if names else []
        return Report(tables, notes, "split")

    def _cells(self, rows: pd.DataFrame) -> dict[str, str]:
        differences = (rows["b"] - rows["a"]).to_numpy()
        digits = 3 if "stoi" in self.metric else 2
        p = scipy.stats.wilcoxon(differences).pvalue if differences.any() else 1.0
        return {
            "A": f"{rows['a'].mean():.{digits}f}",
            "B": f"{rows['b'].mean():.{digits}f}",
            "B - A": bootstrap(differences).text(digits) if len(rows) >= FEWEST else f"{differences.mean():.{digits}f}",
            "B better": str(int((differences > 0).sum())),
            "B worse": str(int((differences < 0).sum())),
            "p": f"{p:.2g}",
        }


def _check_same(both: pd.DataFrame, which: str) -> None:
    """Raises InputError where mixtures of one name are of other utterances, or at other levels."""
    for columns, what in (
        (both["sources"] != both["sources_b"], "other utterances"),
        ((both["input_si_sdr"] - both["input_si_sdr_b"]).abs() > SAME_LEVEL, "other levels, or scored otherwise"),
    ):
        if columns.any():
            names = named(both.loc[columns, "mixture"].tolist(), ", ")
            raise InputError(
                f"{which}: {int(columns.sum())} mixtures of the same name are of {what} ({names}); score both runs with"
                " the same data and settings"
            )
