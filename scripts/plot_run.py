"""Draws runs: `python scripts/plot_run.py FOLDER [FOLDER ...] OUTPUT.png`.

Of run folders: their training loss, gradient norm and threshold. Of one audio folder (RUN_DIR/audio/SPLIT/NAME): the
spectrograms of its mixture, estimates and references.
"""

import sys
from pathlib import Path

from separation.app.command import entry_point
from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder
from separation.studies.run_figures import spectrogram_figure, training_figure


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
        figure = training_figure([RunFolder(folder) for folder in folders])
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        figure.savefig(temporary, dpi=110, format=output.suffix[1:])
    print(output)


if __name__ == "__main__":
    entry_point(main)
