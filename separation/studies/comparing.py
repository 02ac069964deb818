"""What every study does with a table of runs: refuse runs that don't go together, group them by cell and seed, take
means and differences, name the clipping strategies, and choose among thresholds."""

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from separation.errors import InputError
from separation.studies.intervals import Mean, mean
from separation.studies.run_table import DIGEST, PROVENANCE, RESULTS, as_text

NONE, AUTOCLIP = "none", "autoclip p=10"
"""The strategies that every other is compared with."""
THRESHOLD = "clip.max_norm"
"""A strategy with several of these is a grid."""
ALWAYS_NAMED = {"autoclip": ("clip.p", "clip.window", "clip.groups"), "fixed": (THRESHOLD,)}
"""Settings in a strategy's name even where all its runs share them."""
SCALES = ("loss_scale", "magnitude_scale")
SIZE = ("model.hidden_size", "model.num_layers")
"""Settings of all models that have them; the others below `model.` are each model's."""
SHOWN = (
    *("data", *SIZE, "optimizer", "optimizer.lr", "trainer.batch_size", "trainer.excerpt_frames", "steps", *SCALES),
    *("num_mixtures", "commit"),
)
"""What a study says of its runs where all share it."""
MOST_NAMED = 8
"""Differences in an error."""


def differences(runs: pd.DataFrame, apart: Sequence[str] = ()) -> dict[str, list[str]]:
    """Where runs differ beside model, clipping and seed, with all values: in settings, steps, test mixtures or commit.

    Args:
        apart: columns that don't count.
    """
    results = {*RESULTS, *PROVENANCE} - {"steps", "num_mixtures", "commit"}
    values = {}
    for name in runs.columns.difference([*results, *apart, "model", "seed", "strategy"], sort=False):
        if (name.startswith("model.") and name not in SIZE) or name == DIGEST:
            for model, of_model in runs.groupby("model"):
                values[f"{name} of {model}"] = _values(of_model[name])
        elif not is_clipping(name):
            values[name] = _values(runs[name].dropna() if name in SIZE else runs[name])
    return {name: texts for name, texts in values.items() if len(texts) > 1}


def _values(column: pd.Series) -> list[str]:
    return sorted(as_text(value) or "nothing" for value in column.unique())


def is_clipping(name: str) -> bool:
    """Whether a column says how a run clips."""
    return name == "clip" or name.startswith("clip.")


def check_alike(runs: pd.DataFrame, mixed: bool, apart: Sequence[str] = ()) -> list[str]:
    """Where runs differ, a line for each setting, to go below a table.

    Args:
        mixed: they may differ.
        apart: columns in which they may differ anyway.

    Raises:
        InputError: they may not, and do.
    """
    differing = {name: ", ".join(values) for name, values in differences(runs, apart).items()}
    if differing and not mixed:
        text = "; ".join(f"{name}: {values}" for name, values in list(differing.items())[:MOST_NAMED])
        text += f"; and {len(differing) - MOST_NAMED} others" if len(differing) > MOST_NAMED else ""
        raise InputError(f"the runs differ ({text}); choose those of one kind, or say --mixed")
    return [f"MIXED: runs differ in {name}: {values}" for name, values in differing.items()]


def short(name: str) -> str:
    """A setting's name without its group: lr for optimizer.lr."""
    return name.rpartition(".")[2]


def shared_settings(runs: pd.DataFrame) -> str:
    """As in "data fsdd, hidden_size 128, ..."."""
    shared = [name for name in SHOWN if name in runs and runs[name].nunique(dropna=False) == 1]
    return ", ".join(f"{short(name)} {as_text(runs[name].iloc[0])}" for name in shared)


def all_seeds(runs: pd.DataFrame) -> list[int]:
    """The seeds of a table, sorted."""
    return sorted(runs["seed"].unique().tolist())


NO_PARTNER = "no run has a partner without clipping (clip=none or clip.p=100) of the same model and seed"


def check_once(rows: pd.DataFrame, apart: str) -> None:
    """Raises InputError where two rows are of one model, strategy, seed and value of the column `apart`."""
    twice = rows[rows.duplicated(["model", "strategy", "seed", apart])]
    if len(twice):
        which = ", ".join(f"{name} {twice.iloc[0][name]}" for name in ("model", "strategy", "seed"))
        raise InputError(f"two runs of {which}; leave out one")


class Scores:
    """Runs by cell and seed.

    Args:
        runs: a table.
        cell: the columns that make a cell.
        seeds: that a complete cell has; None: all of the table.

    Raises:
        InputError: two runs are of one cell and seed.

    Attributes:
        cells: their runs, by seed.
    """

    def __init__(self, runs: pd.DataFrame, cell: Sequence[str], seeds: Sequence[int] | None = None) -> None:
        twice = runs[runs.duplicated([*cell, "seed"])]
        if len(twice):
            names = ", ".join(f"{short(name)} {as_text(twice.iloc[0][name])}" for name in cell)
            raise InputError(f"two runs of {names}, seed {twice.iloc[0]['seed']}; leave out one")
        self.seeds = all_seeds(runs) if seeds is None else seeds
        self.cells = {key: group.set_index("seed") for key, group in runs.groupby(list(cell), sort=False)}

    def of(self, *cell: Hashable) -> pd.Series:
        """Test SI-SDR in dB by seed, NaN where there is no run."""
        scores = self.cells[cell]["si_sdr"] if cell in self.cells else pd.Series(dtype=float)
        return scores.reindex(self.seeds)

    def mean(self, *cell: Hashable) -> Mean:
        """Mean SI-SDR in dB."""
        return mean(self.of(*cell))

    def gain(self, cell: tuple[Hashable, ...], other: tuple[Hashable, ...]) -> Mean:
        """Mean of the differences in dB from another cell with the same seed, thus the same initial values and
        mixtures."""
        return mean(self.of(*cell) - self.of(*other))

    def column(self, name: str, *cell: Hashable) -> float | None:
        """Mean of a column over the seeds; None where a value is missing, or there are no runs."""
        if cell not in self.cells or name not in self.cells[cell] or self.cells[cell][name].isna().any():
            return None
        return float(self.cells[cell][name].mean())


def name_strategies(runs: pd.DataFrame, tuned: bool = True) -> pd.DataFrame:
    """Adds the column `strategy`: the choice, and the settings that set apart its variants.

    Args:
        tuned: thresholds aren't told apart; `choose_thresholds` chooses one.
    """
    names = pd.Series("", index=runs.index)
    for choice, group in runs.groupby("clip"):
        settings = [name for name in group if name.startswith("clip.") and not (tuned and name == THRESHOLD)]
        differing = {name for name in settings if group[name].nunique(dropna=False) > 1}
        always = ALWAYS_NAMED.get(str(choice), ())
        for index, run in group.iterrows():
            given = [name for name in settings if name in always or (name in differing and not _repeats(run, name))]
            parts = [f"{name.removeprefix('clip.')}={as_text(run[name])}" for name in given if pd.notna(run[name])]
            names[index] = " ".join([str(choice), *parts])
    return runs.assign(strategy=names)


def _repeats(run: Any, name: str) -> bool:
    """Whether a setting only repeats the threshold, as ErrorFeedback's max_error_norm in the recipes."""
    return name != THRESHOLD and run[name] == run.get(THRESHOLD)


def choose_thresholds(runs: pd.DataFrame) -> tuple[pd.DataFrame, dict[tuple[str, str], tuple[Scores, float]]]:
    """Of runs that differ in their threshold alone, those with the one of the lowest validation loss.

    Returns:
        Those runs, and all without a threshold; and by model and strategy the scores of all thresholds, and the chosen
        one: of those with most seeds (one that diverges has fewer) the one with the lowest mean validation loss over
        the seeds that they share, if they share any.

    Raises:
        InputError: two runs are of one threshold and seed.
    """
    grids, kept = {}, pd.Series(True, index=runs.index)
    for (model, strategy), grid in runs.groupby(["model", "strategy"], sort=False) if THRESHOLD in runs else ():
        grid = grid[grid[THRESHOLD].notna()]
        if len(grid):
            scores = Scores(grid, ("model", "strategy", THRESHOLD), all_seeds(runs))
            losses = grid.pivot(index=THRESHOLD, columns="seed", values="valid_loss")
            counts = losses.notna().sum(axis=1)
            losses = losses[counts == counts.max()]
            shared = losses.dropna(axis=1)
            chosen = (losses if shared.empty else shared).mean(axis=1).idxmin()
            grids[model, strategy] = scores, chosen
            kept[grid.index[grid[THRESHOLD] != chosen]] = False
    return runs[kept], grids
