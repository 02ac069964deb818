"""Makes a run folder of a model that nussl trained, for evaluate.py and separate.py:
`python scripts/import_nussl.py file=MODEL.pth run_dir=RUN_DIR allow_pickle=true [data=... mixing.rms=... key=value]`.

The network has to be one of conf/model. nussl's files don't say at which level a network was trained: give mixing.rms,
the level of a source, where it was one level; otherwise mixtures keep their own. nussl keeps pickled objects in its
files, which can run any code when they are opened: give allow_pickle=true only for a file that you trust.
"""

from separation.app.command import entry_point
from separation.app.nussl_import import import_model
from separation.app.settings import arguments, split_overrides
from separation.errors import InputError, check_flag
from separation.runs.paths import user_path


def main() -> None:
    """Imports and says where the run folder is."""
    program, overrides = split_overrides(arguments(__doc__, "import_nussl"), "import_nussl")
    file, run_dir = (user_path(key, program[key]) for key in ("file", "run_dir"))
    check_flag("allow_pickle", program.allow_pickle)
    if not program.allow_pickle:
        raise InputError(
            f"file={file}: nussl's files hold pickled objects, which can run any code when they are opened; if"
            " you trust this one, add allow_pickle=true"
        )
    import_model(file, run_dir, overrides)
    print(run_dir)


if __name__ == "__main__":
    entry_point(main)
