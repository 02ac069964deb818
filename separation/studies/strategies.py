"""Clipping strategies side by side: SI-SDR over seeds, differences seed by seed, and what each did."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean

from separation.errors import InputError
from separation.runs.summaries import table
from separation.studies.intervals import Mean, mean
from separation.studies.run_table import Row, compare_settings, differing_lines

NONE, AUTOCLIP = "NoClip", "AutoClip p=10"
"""What every strategy is compared with."""
TUNED = "max_norm"
"""A strategy with several of these is a grid, of which the one with the lowest validation loss stands for all."""
BOUND = "max_error_norm="
NAMED = ("window=", "groups=", TUNED)
"""What is in a strategy's name also where no variant differs in it."""


class Comparison:
    """Runs by strategy, model and seed. A strategy's name is its class with the settings that set it apart.

    Args:
        rows: of runs.
        mixed: take runs that differ in corpus, size, steps or commit too.

    Raises:
        InputError: there are no runs, or they differ and `mixed` is false, or two are of one cell and seed.

    Attributes:
        models: in the order of the rows.
        strategies: names, those of grids by their class, with the best value of each model in `chosen`.
        cells: rows by strategy and model, then by seed.
        grids: by class and model: the cells of each value.
        chosen: by class and model: the value.
    """

    def __init__(self, rows: Sequence[Row], mixed: bool = False) -> None:
        if not rows:
            raise InputError("no finished runs; recipes/clipping/compare.sh trains them")
        self.settings, self.differing = compare_settings(rows, mixed)
        self.models = list(dict.fromkeys(row["model"] for row in rows))
        self.cells: dict[tuple[str, str], dict[int, Row]] = defaultdict(dict)
        self.grids: dict[tuple[str, str], dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
        names = strategy_names(rows)
        for row in rows:
            kind, value = names[row["clip"], row["p"]], _tuned_value(row)
            cell = self.grids[kind, row["model"]][value] if value else self.cells[kind, row["model"]]
            if int(row["seed"]) in cell:
                raise InputError(f"two runs of {row['model']}, {row['clip']}, seed {row['seed']}; leave out one")
            cell[int(row["seed"])] = row
        self.chosen = {key: _best(grid) for key, grid in self.grids.items()}
        self.cells |= {key: self.grids[key][value] for key, value in self.chosen.items()}
        self.strategies = list(dict.fromkeys(name for name, _ in self.cells))
        self.seeds = sorted({int(row["seed"]) for row in rows})

    def scores(self, strategy: str, model: str) -> dict[int, float]:
        """Test SI-SDR in dB by seed; empty where there are no runs."""
        return {seed: float(row["si_sdr"]) for seed, row in self.cells.get((strategy, model), {}).items()}

    def mean(self, strategy: str, model: str) -> Mean | None:
        """Mean SI-SDR; None where there are no runs."""
        scores = self.scores(strategy, model)
        return mean(list(scores.values())) if scores else None

    def difference(self, strategy: str, model: str, other: str) -> Mean | None:
        """Mean of the differences in dB from another strategy with the same seed, thus the same initial values and
        mixtures; None where no seed has both."""
        own, theirs = self.scores(strategy, model), self.scores(other, model)
        differences = [own[seed] - theirs[seed] for seed in sorted(own.keys() & theirs.keys())]
        return mean(differences) if differences else None

    def column(self, strategy: str, model: str, name: str) -> float | None:
        """Mean of a column over the seeds; None where a cell is empty or there are no runs."""
        values = [row[name] for row in self.cells.get((strategy, model), {}).values()]
        return fmean(map(float, values)) if values and all(values) else None


def _tuned_value(row: Row) -> str:
    """The value of a grid that a run is of, or nothing."""
    given = dict(item.partition("=")[::2] for item in row["clip"].rstrip(")").partition("(")[2].split(", "))
    return given.get(TUNED, "")


def strategy_names(rows: Sequence[Row], tuned: bool = True) -> dict[tuple[str, str], str]:
    """By the columns `clip` and `p`: the class, and what sets its variants apart.

    Args:
        tuned: a grid's values aren't told apart.
    """
    variants: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(dict)
    for row in rows:
        kind, _, inner = row["clip"].rstrip(")").partition("(")
        variants[kind][row["clip"], row["p"]] = [item for item in inner.split(", ") if item]
    for kinds in variants.values():
        bounds = {item for items in kinds.values() for item in items if item.startswith(BOUND)}
        for items in kinds.values():
            norms = {item.partition("=")[2] for item in items if item.startswith((f"{TUNED}=", BOUND))}
            hidden = [f"{TUNED}="] if tuned else []
            if len(norms) == 1 < len(bounds):  # as the recipes have it, where it says nothing new
                hidden.append(BOUND)
            items[:] = [item for item in items if not item.startswith(tuple(hidden))]
    names = {}
    for kind, kinds in variants.items():
        shared = set.intersection(*map(set, kinds.values()))
        for key, items in kinds.items():
            p = [f"p={float(key[1]):g}"] if key[1] else []
            names[key] = " ".join([kind, *p, *(item for item in items if item not in shared or item.startswith(NAMED))])
    return names


def _best(grid: dict[str, dict[int, Row]]) -> str:
    """Of the values with most seeds (one that diverges has fewer) the one with the lowest mean validation loss, over
    the seeds that they share, if they share any."""
    most = max(map(len, grid.values()))
    values = [value for value, cell in grid.items() if len(cell) == most]
    shared = set.intersection(*(set(grid[value]) for value in values))

    def loss(value: str) -> float:
        return fmean(float(row["valid_loss"]) for seed, row in grid[value].items() if seed in shared or not shared)

    return min(values, key=loss)


def shown(value: Mean | None, num_seeds: int) -> str:
    """A mean in a table, which says if seeds are missing."""
    if value is None:
        return "missing"
    return str(value) if value.num_values == num_seeds else f"{value} ({value.num_values} of {num_seeds})"


def _model_lines(own: Comparison, model: str) -> Iterator[str]:
    rows = []
    count = len(own.seeds)
    for name in sorted(own.strategies, key=lambda name: -(own.mean(name, model) or Mean(-1e9, 0, 0)).value):
        columns = ("clipped_fraction", "skipped_steps", "step_size_mean", "step_size_variance")
        clipped, skipped, size, variance = (own.column(name, model, column) for column in columns)
        rows.append(
            [
                f"{name} {TUNED}={own.chosen[name, model]}" if (name, model) in own.chosen else name,
                shown(own.mean(name, model), count),
                shown(own.difference(name, model, NONE), count) if name != NONE else "",
                shown(own.difference(name, model, AUTOCLIP), count) if name != AUTOCLIP else "",
                "" if clipped is None else f"{clipped:.0%}",
                "" if skipped is None else f"{skipped:g}",
                "" if size is None else f"{size:.2g}",
                "" if variance is None else f"{variance:.2g}",
            ]
        )
    header = [model, "SI-SDR [dB]", f"over {NONE}", f"over {AUTOCLIP}", "clipped", "skipped"]
    yield table([*header, "step size", "its variance"], rows)
    for (kind, of_model), grid in own.grids.items():
        if of_model == model:
            values = sorted(grid, key=float)
            means = {value: mean([float(row["si_sdr"]) for row in grid[value].values()]) for value in values}
            listed = "; ".join(f"{value}: {shown(means[value], count)}" for value in values)
            chosen = own.chosen[kind, model]
            edge = ", the grid's edge" if len(values) > 1 and chosen in (values[0], values[-1]) else ""
            yield f"{kind}, by {TUNED}: {listed} (the lowest validation loss: {chosen}{edge})"
    yield ""


def report(own: Comparison) -> str:
    """A table for each model, and what the numbers are of."""
    lines = [line for model in own.models for line in _model_lines(own, model)]
    lines.append(", ".join(f"{name} {value}" for name, value in own.settings.items()))
    lines += [
        f"SI-SDR on the test split, mean +- 95% interval over {len(own.seeds)} seed(s); differences are of runs with"
        " the same seed",
        "clipped: steps in which the whole norm became smaller, where one tensor or entry suffices; AdaGN and"
        " BlockNormalized set norms in every step",
        "step size: mean and variance over training after its first quarter",
    ]
    return "\n".join([*lines, *differing_lines(own.differing)])
