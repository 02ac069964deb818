"""Exports a trained run for nussl: `python scripts/export_nussl.py run=RUN_DIR [output=FILE.pth]`, and prints how to
give a mixture to the network: at the rate and level of its training.

The file loads in nussl's `DeepMaskEstimation` (mask inference) or `DeepClustering` (embedding models), after
`from separation.compat import nussl; nussl = nussl()`, which lets PyPI's nussl 1.1.9 run on today's packages. GitHub's
nussl calls itself 1.1.9 too, and needs a file of its own: github=true. nussl keeps pickled objects in its files: open
only those you trust.
"""

from pathlib import Path

from separation.app.command import entry_point
from separation.app.nussl_export import export
from separation.app.settings import arguments, compose_config, run_folder
from separation.errors import check_flag


def main() -> None:
    """Exports and says where the file is and how to read a mixture for it."""
    program = compose_config("export_nussl", arguments(__doc__, "export_nussl", positional=["run"]))
    check_flag("github", program.github)
    folder = run_folder(program.run)
    output = folder.path / "nussl.pth" if program.output is None else Path(str(program.output))
    lines = export(folder, output, program.github, program.allow)
    print(output, "", *lines, sep="\n")


if __name__ == "__main__":
    entry_point(main)
