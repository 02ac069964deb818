"""What the scripts that collect a study's runs, or print its table, share: their command lines."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure

from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.studies.run_table import Row, load_rows

Study = TypeVar("Study")


def compare(
    doc: str | None,
    build: Callable[[Sequence[Row], bool], Study],
    report: Callable[[Study], str],
    figure: Callable[[Study], Figure] | None = None,
) -> None:
    """Prints a report of the runs and tables that the command line names; draws where it names an output.

    Args:
        doc: how to call the script.
        build: takes rows, and whether --mixed was given.
        figure: None: nothing can be drawn.

    Raises:
        InputError: no runs are named, or several outputs, or the runs can't be read or compared.
    """
    given = _arguments(doc)
    paths = [Path(argument) for argument in given if argument != "--mixed"]
    outputs = [path for path in paths if figure and path.suffix == ".png"]
    runs = [path for path in paths if path not in outputs]
    if not runs or len(outputs) > 1:
        raise InputError("expected RUNS [RUNS ...] [--mixed]; --help says more")
    own = build(load_rows(runs), "--mixed" in given)
    print(report(own))
    if figure and outputs:
        with replacing(outputs[0]) as temporary:
            figure(own).savefig(temporary, dpi=110, format="png")


def folders_and_table(doc: str | None) -> tuple[list[Path], Path]:
    """Folders of runs, and a .csv file.

    Raises:
        InputError: other things are named.
    """
    *folders, output = [Path(argument) for argument in _arguments(doc)] or [Path()]
    if not folders or output.suffix != ".csv":
        raise InputError("expected FOLDER [FOLDER ...] OUTPUT.csv; --help says more")
    return folders, output


def _arguments(doc: str | None) -> list[str]:
    """The command line's; with --help, prints how to call the script and ends."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(doc)
        sys.exit()
    return sys.argv[1:]
