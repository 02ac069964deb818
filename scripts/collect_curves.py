"""Collects runs' training curves in a table: `python scripts/collect_curves.py FOLDER [FOLDER ...] OUTPUT.csv`.

Each folder is a run's, or holds runs. A row is a window of 50 steps of a run: mean loss, median gradient norm, share of
clipped steps. The table is written anew.
"""

import sys
from pathlib import Path

from separation import cli
from separation.collection import write_rows
from separation.curves import COLUMNS, collect_curves
from separation.errors import InputError


def main() -> None:
    """Writes the table."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    *folders, output = [Path(argument) for argument in sys.argv[1:]] or [Path()]
    if not folders or output.suffix != ".csv":
        raise InputError("expected FOLDER [FOLDER ...] OUTPUT.csv; --help says more")
    rows = collect_curves(folders)
    write_rows(output, rows, COLUMNS)
    print(f"{output}: {len(rows)} rows")


if __name__ == "__main__":
    cli.entry_point(main)
