"""Draws runs: `python scripts/plot_run.py FOLDER [FOLDER ...] OUTPUT.png`.

Of run folders, and of folders that hold some (a sweep's): their training loss, gradient norm and threshold; runs that
differ in their seed alone as mean and band. Of one audio folder (RUN_DIR/audio/SPLIT/NAME): the spectrograms of its
mixture, estimates and references.
"""

import sys
from pathlib import Path

from separation.app.command import entry_point
from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.studies.drawing import save
from separation.studies.run_figures import spectrogram_figure, training_figure
from separation.studies.run_table import all_runs


def main() -> None:
    """Writes the figure."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    *folders, output = [Path(argument) for argument in sys.argv[1:]] or [Path()]
    if not folders or output.suffix not in (".png", ".svg", ".pdf"):
        raise InputError("expected FOLDER [FOLDER ...] OUTPUT.png (or .svg, .pdf); --help says more")
    if (folders[0] / "mixture.wav").is_file():
        figure = spectrogram_figure(folders[0])
    else:
        figure = training_figure([run for folder in folders for run in _runs(folder)])
    save(figure, output)
    print(output)


def _runs(folder: Path) -> list[RunFolder]:
    """The folder's run, or the runs below it that have taken steps."""
    runs = [] if (folder / "steps.csv").is_file() else [run for run in all_runs([folder]) if run.steps.is_file()]
    return runs or [RunFolder(folder)]


if __name__ == "__main__":
    entry_point(main)
