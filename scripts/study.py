"""What the scripts that collect a study's runs, or print its table, share: their command lines."""

import sys
from pathlib import Path

from separation.errors import InputError


def arguments(doc: str | None, suffix: str = "") -> tuple[list[Path], list[Path], bool]:
    """Runs and tables; output files, those with the suffix; and whether --mixed was given.

    With --help, prints how to call it and ends.

    Raises:
        InputError: no runs are named, or several outputs.
    """
    given = sys.argv[1:]
    if {"-h", "--help"} & set(given):
        print(doc)
        sys.exit()
    paths = [Path(argument) for argument in given if argument != "--mixed"]
    outputs = [path for path in paths if suffix and path.suffix == suffix]
    runs = [path for path in paths if path not in outputs]
    if not runs or len(outputs) > 1:
        raise InputError("expected RUNS [RUNS ...] [--mixed]; --help says more")
    return runs, outputs, "--mixed" in given


def folders_and_table(doc: str | None) -> tuple[list[Path], Path]:
    """Folders of runs, and a .csv file.

    With --help, prints how to call it and ends.

    Raises:
        InputError: other things are named.
    """
    if {"-h", "--help"} & set(sys.argv):
        print(doc)
        sys.exit()
    *folders, output = [Path(argument) for argument in sys.argv[1:]] or [Path()]
    if not folders or output.suffix != ".csv":
        raise InputError("expected FOLDER [FOLDER ...] OUTPUT.csv; --help says more")
    return folders, output
