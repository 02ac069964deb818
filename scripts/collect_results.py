"""Collects finished runs in a table: `python scripts/collect_results.py FOLDER [FOLDER ...] OUTPUT.csv`.

Each folder is a run's, or holds runs. A row is a run: its model, clipping, seed, steps, network, scores on the test
split, and where it comes from. Rows that the file holds already stay; runs that it holds are not added again.
"""

from study import folders_and_table

from separation.app import command as cli
from separation.studies.run_table import collect, read_rows, write_rows


def main() -> None:
    """Writes the table and says how many rows are new."""
    folders, output = folders_and_table(__doc__)
    found, unfinished = collect(folders)
    rows = read_rows(output) if output.exists() else []
    new = [row for row in found if row not in rows]
    write_rows(output, [*rows, *new])
    print(f"{output}: {len(new)} new, {len(rows)} kept, {unfinished} unfinished")


if __name__ == "__main__":
    cli.entry_point(main)
