"""Collects runs' training curves in a table: `python scripts/collect_curves.py FOLDER [FOLDER ...] OUTPUT.csv`.

Each folder is a run's, or holds runs. A row is a window of 50 steps of a run: mean loss, median gradient norm, share of
clipped steps. The table is written anew.
"""

from study import folders_and_table

from separation.app import command as cli
from separation.studies.curves import COLUMNS, collect_curves
from separation.studies.run_table import write_rows


def main() -> None:
    """Writes the table."""
    folders, output = folders_and_table(__doc__)
    rows = collect_curves(folders)
    write_rows(output, rows, COLUMNS)
    print(f"{output}: {len(rows)} rows")


if __name__ == "__main__":
    cli.entry_point(main)
