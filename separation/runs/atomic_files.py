"""Files that appear whole or not at all, and what is said where they can't be written."""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from separation.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where room would help."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path`; what was written there is synced and renamed to `path` at the end, and
    removed where writing failed, so that an older file stays as it was."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")  # of its own length: the longest name of a file has room
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a failed write names no file
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def why(error: BaseException, folder: Path, key: str) -> str:
    """The end of a sentence on what can't be written to a folder: why, and what helps, which is room only where there
    is none.

    Args:
        error: by the system, or by a library after one by the system.
        key: setting that chooses the folder.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    reason = cause.strerror if cause is not None and cause.strerror else str(error).partition("\n")[0]
    if cause is None or cause.errno not in FULL:
        return f"({reason}); choose another {key}"
    if cause.errno == errno.ENOSPC and folder.is_dir():  # a quota says nothing of the disk
        reason += f"; {shutil.disk_usage(folder).free / 1e6:.1f} MB are free on its disk"
    return f"({reason}); make room, or choose another {key}"


def write_error(path: Path, error: Exception) -> InputError:
    """The sentence for a run's file that could not be written."""
    if not path.parent.is_dir():
        return InputError(f"{path}: its folder is gone; was the run folder removed while it was in use?")
    before = " What it held before is whole." if path.exists() else ""
    return InputError(f"{path}: can't be written {why(error, path.parent, 'run_dir')}.{before}")


def check_writable(key: str, folder: Path) -> None:
    """Raises InputError unless files can be made in a folder, or in the one in which it would be made; leaves nothing.

    Args:
        key: setting that chooses the folder.
    """
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"{key}={folder}: can't be written {why(error, folder, key)}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
