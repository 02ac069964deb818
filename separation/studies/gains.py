"""When a gain appears: a strategy's validation beside no clipping's with the same seed, over the steps of training."""

from collections.abc import Sequence
from pathlib import Path

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
from separation.studies.intervals import Mean, mean
from separation.studies.run_table import PROVENANCE, collect_parts, read_log, read_table, typed
from separation.studies.table_formats import Report

VALIDATION_COLUMNS = ("model", "clip", "seed", "step", "validation_loss", "validation_si_sdr", *PROVENANCE)
UNCLIPPED = "autoclip p=100"
"""Clips nothing, like no clipping."""
GAINS = {"validation_si_sdr": "SI-SDR gain [dB]", "validation_loss": "validation loss [%]"}


def collect_validation(folders: Sequence[Path]) -> pd.DataFrame:
    """A row for every epoch of the finished runs in some folders: settings, step, validation loss and SI-SDR.

    Raises:
        InputError: there is no run, or its files are damaged, or it was validated by its loss alone.
    """
    return typed(collect_parts(folders, _epochs), VALIDATION_COLUMNS)


def _epochs(run: RunFolder) -> list[dict[str, str]]:
    epochs = read_log(run.epochs)
    if any(not epoch.get("valid/si_sdr") for epoch in epochs):
        raise InputError(f"{run.path}: its validation has no SI-SDR; train again with trainer.num_scored=50")
    return [
        {
            "step": epoch["step"],
            "validation_loss": f"{float(epoch['valid/loss']):.6g}",
            "validation_si_sdr": f"{float(epoch['valid/si_sdr']):.4f}",
        }
        for epoch in epochs
    ]


def load_validation(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of tables (.csv) and of the runs in folders, equal ones once."""
    parts = [
        read_table(path, VALIDATION_COLUMNS) if path.suffix == ".csv" else collect_validation([path]) for path in paths
    ]
    return pd.concat(parts, ignore_index=True).drop_duplicates(ignore_index=True)


class Gains:
    """Paired differences from runs without clipping, by model, strategy and step.

    Args:
        rows: what `load_validation` gives.
        mixed: runs may differ in other things than model, clipping and seed.

    Raises:
        InputError: there is nothing to compare, or runs don't go together.

    Attributes:
        of: for each quantity of `GAINS`, model and strategy a table of differences, a row a step and a column a seed;
            NaN where one of the two runs is missing. Losses differ in percent of the unclipped one's.
    """

    def __init__(self, rows: pd.DataFrame, mixed: bool = False) -> None:
        rows = name_strategies(rows, tuned=False).replace({"strategy": {UNCLIPPED: NONE}})
        rows["steps"] = rows.groupby(["model", "strategy", "seed"])["step"].transform("max")
        quantities = ["validation_loss", "validation_si_sdr", "step"]
        self.notes = [shared_settings(rows), *check_alike(rows, mixed, quantities)]
        self.seeds = all_seeds(rows)
        self.of: dict[tuple[str, str, str], pd.DataFrame] = {}
        check_once(rows, "step")
        for model, of_model in rows.groupby("model", sort=False):
            for quantity in GAINS:
                tables = {
                    str(strategy): group.pivot(index="step", columns="seed", values=quantity)
                    for strategy, group in of_model.groupby("strategy", sort=False)
                }
                base = tables.pop(NONE, pd.DataFrame())
                for strategy, table in tables.items():
                    difference = (table - base).reindex(columns=self.seeds).dropna(how="all")
                    if quantity == "validation_loss":
                        difference = 100 * difference / base
                    if len(difference):
                        self.of[quantity, str(model), strategy] = difference
        if not self.of:
            raise InputError(NO_PARTNER)

    def means(self, quantity: str, model: str, strategy: str) -> dict[int, Mean]:
        """Mean and interval of each step."""
        table = self.of[quantity, model, strategy]
        return {int(step): mean(values) for step, values in zip(table.index, table.to_numpy(), strict=True)}

    def report(self) -> Report:
        """A table a model and strategy, a row a step."""
        tables = {}
        for model, strategy in dict.fromkeys(key[1:] for key in self.of):
            columns = {
                title: {f"{step:,}": str(value) for step, value in self.means(quantity, model, strategy).items()}
                for quantity, title in GAINS.items()
            }
            tables[f"{model}, {strategy}: step"] = pd.DataFrame(columns)
        note = (
            "Differences from no clipping with the same seed on the validation mixtures: mean +- 95% interval over the"
            f" seeds {', '.join(map(str, self.seeds))}; a lower loss is negative"
        )
        return Report(tables, [note, *filter(None, self.notes)])
