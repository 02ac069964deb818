"""Exports a trained run for nussl: `python scripts/export_nussl.py run=RUN_DIR [output=FILE.pth]`.

The file loads in nussl's `DeepMaskEstimation` (mask inference) or `DeepClustering` (embedding models), after
`from separation.compat import nussl; nussl = nussl()`, which lets nussl 1.1.9 run on today's packages. nussl keeps
pickled objects in its files: open only those you trust.
"""

from pathlib import Path

from separation.app.command import entry_point
from separation.app.nussl_export import export
from separation.app.settings import arguments, compose_config, run_folder


def main() -> None:
    """Exports and says where the file is."""
    program = compose_config("export_nussl", arguments(__doc__, "export_nussl", positional=["run"]))
    folder = run_folder(program.run)
    output = folder.path / "nussl.pth" if program.output is None else Path(str(program.output))
    export(folder, output)
    print(output)


if __name__ == "__main__":
    entry_point(main)
