"""Files that appear whole or not at all, and what is said where they can't be written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from separation.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; what was written there is synced and renamed to `path` at the end, and
    removed where writing failed, so that an older file stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def free_space(folder: Path) -> str:
    """How much room a folder's disk has, to go on a sentence; empty where there is no folder."""
    return f"; {shutil.disk_usage(folder).free / 1e6:.1f} MB are free on its disk" if folder.is_dir() else ""


def write_error(path: Path, error: Exception) -> InputError:
    """The sentence for a file that could not be written: why, and how much room its disk has."""
    if not path.parent.is_dir():
        return InputError(f"{path}: its folder is gone; was the run folder removed while it was in use?")
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    before = " What it held before is whole." if path.exists() else ""
    return InputError(
        f"{path}: can't be written ({reason}{free_space(path.parent)}); make room, or choose another run_dir.{before}"
    )


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
