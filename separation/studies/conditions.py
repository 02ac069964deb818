"""Where clipping pays: strategies beside no clipping under several training conditions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from separation.errors import InputError
from separation.runs.summaries import table
from separation.studies.run_table import SAME, TEXTS, Row, differing_lines
from separation.studies.strategies import NONE, Comparison, shown


class Conditions:
    """Runs by training condition: all that runs in one table share, as steps, optimizer and length of excerpts.

    Args:
        rows: of runs.
        mixed: take runs of one condition that differ in other settings or in their commits too.

    Raises:
        InputError: there are no runs, or `Comparison` refuses those of a condition.

    Attributes:
        names: of the settings in which conditions differ.
        shared: the other settings.
        comparisons: by the values of `names`, sorted by them.
        models: in the order of the rows.
        seeds: of all rows.
    """

    def __init__(self, rows: Sequence[Row], mixed: bool = False) -> None:
        if not rows:
            raise InputError("no finished runs; recipes/paper/conditions.sh trains them")
        values = {name: {row[name] for row in rows} for name in SAME if name != "commit"}
        self.names = [name for name, found in values.items() if len(found) > 1]
        self.shared = {name: found.pop() for name, found in values.items() if len(found) == 1}
        groups = defaultdict(list)
        for row in rows:
            groups[tuple(row[name] for name in self.names)].append(row)
        self.comparisons = {key: Comparison(groups[key], mixed) for key in sorted(groups, key=self._order)}
        self.models = list(dict.fromkeys(row["model"] for row in rows))
        self.seeds = sorted({int(row["seed"]) for row in rows})

    def of(self, model: str) -> dict[tuple[str, ...], Comparison]:
        """The conditions under which a model was trained."""
        return {key: own for key, own in self.comparisons.items() if model in own.models}

    def title(self, key: tuple[str, ...]) -> str:
        """As in "lr 0.01, steps 600"."""
        return ", ".join(f"{name} {value}" for name, value in zip(self.names, key, strict=True))

    def _order(self, key: tuple[str, ...]) -> list[Any]:
        """Names by their letters, numbers by their size."""
        values = zip(self.names, key, strict=True)
        return [value if name in TEXTS else float(value or "-inf") for name, value in values]


def _model_lines(own: Conditions, model: str) -> Iterator[str]:
    found = own.of(model)
    strategies = list(dict.fromkeys(name for comparison in found.values() for name in comparison.strategies))
    others = [name for name in strategies if name != NONE]
    rows = []
    count = len(own.seeds)
    for key, comparison in found.items():
        scores = [shown(comparison.mean(name, model), count) for name in strategies]
        gains = [shown(comparison.difference(name, model, NONE), count) for name in others]
        rows.append([own.title(key), *scores, *gains])
    yield table([model, *strategies, *(f"{name} over {NONE}" for name in others)], rows)
    yield ""


def report(own: Conditions) -> str:
    """A table for each model, and what the numbers are of."""
    lines = [line for model in own.models for line in _model_lines(own, model)]
    commits = sorted({value.settings.get("commit", "mixed") for value in own.comparisons.values()})
    lines.append(", ".join(f"{name} {value}" for name, value in {**own.shared, "commit": ", ".join(commits)}.items()))
    lines.append(
        f"SI-SDR on the test split in dB, mean +- 95% interval over seeds {', '.join(map(str, own.seeds))}; differences"
        " are of runs with the same seed. Conditions may have test mixtures of their own: compare these differences"
    )
    for key, comparison in own.comparisons.items():
        lines += [f"{own.title(key)}: {line}" for line in differing_lines(comparison.differing)]
    return "\n".join(lines)
