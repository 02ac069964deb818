"""A report of runs: `python -m separation.report RUN [RUN ...] [--output FILE]`."""

import argparse
from pathlib import Path

from separation.app.command import entry_point
from separation.errors import InputError
from separation.report.page import write_report
from separation.runs.paths import user_path


def main() -> None:
    """Writes the report, and prints where."""
    program = argparse.ArgumentParser(
        "python -m separation.report",
        description="Writes one HTML file with runs' scores, curves and audio, to be opened in a browser.",
    )
    program.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or folder of runs, as a sweep's")
    program.add_argument("--output", metavar="FILE", help="default: report.html in RUN; of several: in this folder")
    arguments = program.parse_args()
    paths = [user_path("run", run) for run in arguments.runs]
    default = paths[0] / "report.html" if len(paths) == 1 else Path("report.html")
    output = user_path("output", arguments.output) if arguments.output else default
    if output.is_dir():
        raise InputError(f"--output {output}: is a folder; give a file, as in {output / 'report.html'}")
    write_report(paths, output)
    print(output)


if __name__ == "__main__":
    entry_point(main)
