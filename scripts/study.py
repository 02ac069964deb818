"""What the scripts that print a study's table share: their command line."""

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
