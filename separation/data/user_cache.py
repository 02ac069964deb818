"""What is kept for a user from run to run, whatever folder the programs run in."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path
from tqdm import tqdm

from separation.runs.atomic_files import write_text

log = logging.getLogger(__name__)

CLOCK_STEP = 2.0
"""Seconds between two times that a file system can tell apart, at most (FAT)."""


def user_cache() -> Path:
    """The folder, by the platform's convention; on Linux `~/.cache/separation`, or below `$XDG_CACHE_HOME`."""
    return user_cache_path("separation", appauthor=False)


def content_digests(root: Path, paths: Sequence[Path], workers: int) -> list[str]:
    """SHA-256 of each file's content; empty for a file that can't be read.

    Digests are remembered in the user's cache, so that a file is read again only when its size or a time of it has
    changed. One of them is its inode's (ctime), which no program sets back: no change of the content escapes.

    Args:
        root: the corpus's folder, whose files' digests are remembered together.
        workers: threads.
    """
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    remembered = user_cache() / "digests" / f"{name}.json"
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be remembered, nobody need wait
            remembered.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(remembered.with_suffix(".lock")))  # runs that start together read once
        now = time.time()
        states = {os.path.abspath(path): _state(path) for path in paths}
        entries = _load(remembered)
        changed = [file for file, state in states.items() if entries.get(file, [])[:-1] != state]
        if changed:
            pool = ThreadPoolExecutor(workers)  # hashlib lets other threads run
            bar = tqdm(changed, desc="Comparing the corpus's files", unit="file", disable=None, leave=False)
            try:
                for file, digest in zip(bar, pool.map(_digest, changed), strict=True):
                    entries[file] = [*states[file], digest]
            finally:
                pool.shutdown(cancel_futures=True)
                # A file that is younger than the clock's step could still change without another time.
                _save(remembered, {f: e for f, e in entries.items() if e[-1] and e[2] < (now - CLOCK_STEP) * 1e9})
    return [entries[os.path.abspath(path)][-1] for path in paths]


def _state(path: Path) -> list[int]:
    """What changes with a file's content: its size in bytes, and when it and its inode were changed, in ns. Of a link
    to nowhere, the link's."""
    stat = path.stat() if path.exists() else path.lstat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _digest(file: str) -> str:
    try:
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""  # decoding it says why


def _load(path: Path) -> dict[str, list[Any]]:
    """Entries by file: its state and its digest. A damaged file counts as none."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {file: entry for file, entry in entries.items() if len(entry) == 4}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _save(path: Path, entries: dict[str, list[Any]]) -> None:
    try:
        write_text(path, json.dumps(entries))
    except OSError as error:
        log.warning("%s: can't be written (%s); the next run reads the corpus again", path, error.strerror or error)
