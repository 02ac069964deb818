"""Paths as people type them, and names as they can be written down."""

import os
import unicodedata
from pathlib import Path

from separation.errors import check_path


def user_path(key: str, value: object) -> Path:
    """The path that a key names: `~` is expanded, and it is taken in whichever Unicode form it lies on the disk.

    Raises:
        InputError: it can't name a file.
    """
    check_path(key, value)
    return as_on_disk(Path(os.path.expanduser(str(value))))


def as_on_disk(path: Path) -> Path:
    """A path with the spelling of each part that exists: an é is one character or two (e and an accent), which look
    the same and aren't the same file. Unchanged where nothing fits."""
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        if not os.path.lexists(found / part):
            try:
                same = [name for name in os.listdir(found) if _composed(name) == _composed(part)]
            except OSError:
                return path
            if len(same) != 1:
                return path
            [part] = same
        found /= part
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def printable(path: Path | str) -> str:
    """A path as text that can be encoded: bytes that aren't UTF-8 (old archives' names) become \\xe9."""
    return os.fsencode(path).decode(errors="backslashreplace")
