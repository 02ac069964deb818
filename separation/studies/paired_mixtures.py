"""What clipping gains mixture by mixture: differences from no clipping, with the chance of seeds and of mixtures."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.studies.comparing import (
    NO_PARTNER,
    NONE,
    all_seeds,
    check_alike,
    check_once,
    name_strategies,
    shared_settings,
)
from separation.studies.gains import UNCLIPPED
from separation.studies.intervals import Interval, crossed_bootstrap, mean
from separation.studies.run_table import PROVENANCE, collect_parts, read_log, read_table, typed
from separation.studies.table_formats import Report

MIXTURE_COLUMNS = ("model", "clip", "seed", "split", "names", "scores", *PROVENANCE)


def collect_mixtures(folders: Sequence[Path]) -> pd.DataFrame:
    """A row for every finished run and test split: settings, how many mixtures from which to which, and their SI-SDR
    in dB, averaged over sources, as a JSON list.

    Raises:
        InputError: there is no run, or its files are damaged.
    """
    return typed(collect_parts(folders, _splits), MIXTURE_COLUMNS)


def _splits(run: RunFolder) -> list[dict[str, str]]:
    rows = []
    for split, scores in _scores(read_log(run.scores)).items():
        values = [None if math.isnan(score) else round(score, 3) for score in scores.values()]
        names = f"{len(scores)} {next(iter(scores))} to {next(reversed(scores))}"
        rows.append({"split": split, "names": names, "scores": json.dumps(values)})
    return rows


def _scores(rows: list[dict[str, str]]) -> dict[str, dict[str, float]]:
    """Mean SI-SDR over a mixture's sources, by split and mixture; NaN where one has none."""
    sources: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        score = float(row["si_sdr"] or "nan")
        sources.setdefault(row["split"], {}).setdefault(row["mixture"], []).append(score)
    return {
        split: {mixture: sum(scores) / len(scores) for mixture, scores in mixtures.items()}
        for split, mixtures in sources.items()
    }


def load_mixtures(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of tables (.csv) and of the runs in folders, equal ones once."""
    parts = [read_table(path, MIXTURE_COLUMNS) if path.suffix == ".csv" else collect_mixtures([path]) for path in paths]
    return pd.concat(parts, ignore_index=True).drop_duplicates(ignore_index=True)


class PairedMixtures:
    """Differences in SI-SDR from no clipping with the same seed, on the same mixtures.

    Args:
        rows: what `load_mixtures` gives.
        mixed: runs may differ in other things than model, clipping and seed.

    Raises:
        InputError: there is nothing to compare, or runs don't go together.

    Attributes:
        of: for each split, model and strategy the differences in dB, shape (seeds with both runs, mixtures).
    """

    def __init__(self, rows: pd.DataFrame, mixed: bool = False) -> None:
        rows = name_strategies(rows, tuned=False).replace({"strategy": {UNCLIPPED: NONE}})
        self.notes = [shared_settings(rows), *check_alike(rows, mixed, ["split", "names", "scores"])]
        self.seeds = all_seeds(rows)
        self.of: dict[tuple[str, str, str], np.ndarray] = {}
        check_once(rows, "split")
        for (split, model), group in rows.groupby(["split", "model"], sort=False):
            if group["names"].nunique() > 1:
                raise InputError(
                    f"{model}: its runs were scored on other mixtures ({', '.join(group['names'].unique())})"
                )
            scores = {
                strategy: {int(row.seed): np.array(json.loads(row.scores), dtype=float) for row in runs.itertuples()}
                for strategy, runs in group.groupby("strategy", sort=False)
            }
            base = scores.pop(NONE, {})
            for strategy, of_seed in scores.items():
                shared = [seed for seed in self.seeds if seed in of_seed and seed in base]
                if shared:
                    self.of[str(split), str(model), str(strategy)] = np.stack(
                        [of_seed[seed] - base[seed] for seed in shared]
                    )
        if not self.of:
            raise InputError(NO_PARTNER)

    def interval(self, split: str, model: str, strategy: str) -> Interval:
        """The mean difference in dB, with the chance of seeds and of mixtures."""
        return crossed_bootstrap(self.of[split, model, strategy])

    def report(self) -> Report:
        """A table a split, a row a model and strategy."""
        tables: dict[str, pd.DataFrame] = {}
        for split in dict.fromkeys(key[0] for key in self.of):
            rows = {}
            for key, differences in self.of.items():
                if key[0] == split:
                    differences = differences[:, ~np.isnan(differences).any(axis=0)]
                    rows[f"{key[1]}, {key[2]}"] = {
                        "seeds": str(len(differences)),
                        "gain, seeds and mixtures [dB]": str(self.interval(*key)),
                        "gain, seeds [dB]": str(mean(differences.mean(axis=1))),
                        "mixtures that gain": f"{100 * np.mean(differences.mean(axis=0) > 0):.0f}%",
                    }
            tables[split] = pd.DataFrame.from_dict(rows, orient="index")
        note = (
            "SI-SDR less that of no clipping with the same seed, on the same mixtures. 'Seeds and mixtures': 95%"
            " interval by a bootstrap that draws seeds and mixtures independently, since every seed meets every mixture"
            " (Owen, 2007): it speaks of other seeds and of other mixtures of these speakers; with few seeds it is too"
            " narrow in their part. 'Seeds': Student's t interval over the seeds' means, for the mixtures at hand"
        )
        return Report(tables, [note, *filter(None, self.notes)], "split")
