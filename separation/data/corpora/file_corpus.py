"""What corpora of audio files share: finding them, decoding them, saying which can't be used."""

import logging
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from omegaconf import ListConfig
from tqdm import tqdm

from separation.data.corpora.corpus import TRAIN, Corpus
from separation.data.keyed_random import permutation
from separation.data.user_cache import content_digests
from separation.errors import InputError, check_choice
from separation.runs.paths import user_path

log = logging.getLogger(__name__)

NAMED_ERRORS = 10
MOST_WORKERS = 16
ON_ERROR = ("stop", "skip")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FileCorpus(Corpus):
    """A corpus made of audio files.

    Args:
        root: its folder.
        on_error: what becomes of files that can't be used: "stop", or "skip", which goes on without them and the
            mixtures that they are in.
    """

    root: str
    on_error: str = "stop"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("data.on_error", self.on_error, ON_ERROR)


def corpus_root(root: str) -> Path:
    """The corpus's folder.

    Raises:
        InputError: it is no folder.
    """
    path = user_path("data.root", root)
    if not path.is_dir():
        raise InputError(f"data.root={root}: no such folder; give the folder that holds the corpus")
    return path


def check_names(key: str, names: object, example: str) -> None:
    """Raises InputError unless a value is a list of names; those of digits alone come as numbers."""
    if not isinstance(names, list | ListConfig) or not all(type(name) in (str, int) for name in names):
        raise InputError(f'{key}={names}: expected a list of names, as in {key}=["{example}"]')
    if len(set(names)) < len(names):
        raise InputError(f"{key}={names}: names something twice")


def speakers_named(key: str, names: Iterable[str | int], speakers: Iterable[str]) -> list[str]:
    """The corpus's speakers that a key names: a name of digits, which settings hold as a number, by that number.

    Raises:
        InputError: there is no such speaker.
    """
    known = sorted(speakers)
    by_number = {int(name): name for name in known if name.isdecimal()}
    found = [by_number.get(name, str(name)) if isinstance(name, int) else name for name in names]
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise InputError(f"{key}: there is no speaker {', '.join(unknown)}; there are {named(known, ', ')}")
    return found


def sexes_in(path: Path, line: re.Pattern[str]) -> dict[str, str]:
    """The sexes of speakers, "F" or "M", in a corpus's list of them; empty where there is no such file.

    Args:
        line: matches an entry, with groups `speaker` and `sex`.
    """
    if not path.is_file():
        return {}
    return {
        match["speaker"]: match["sex"] for match in line.finditer(path.read_text(encoding="utf-8", errors="replace"))
    }


def split_names(names: Sequence[str], shares: dict[str, float], *keys: str) -> dict[str, str]:
    """The split of each of a speaker's files: of every split but `train` a share, rounded up; the rest is for training.
    All of them are for training where there are too few for a file a split.

    Args:
        names: sorted.
        keys: which files are chosen depends on these and on how many there are.
    """
    order = permutation(len(names), *keys)
    splits = dict.fromkeys(names, TRAIN)
    if len(names) <= len(shares):
        return splits
    for split, share in shares.items():
        count = math.ceil(share * len(names))
        splits |= {names[i]: split for i in order[:count]}
        order = order[count:]
    return splits


def file_fingerprint(root: Path, files: Iterable[Path]) -> list[list[Any]]:
    """Path from the root, size in bytes and digest of the content of each file: the same for a copy of the corpus."""
    paths = list(files)
    names = [os.path.relpath(path, root) for path in paths]
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]  # of a link to nowhere, which reading names
    return [list(row) for row in zip(names, sizes, content_digests(root, paths, num_workers()), strict=True)]


def num_workers() -> int:
    """Threads that decode at once: a core each, of those that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def named(items: Sequence[object], separator: str = "; ") -> str:
    """The first ten of what is to be named, and how many more there are."""
    more = f"{separator}and {len(items) - NAMED_ERRORS} more" if len(items) > NAMED_ERRORS else ""
    return separator.join(map(str, items[:NAMED_ERRORS])) + more


def decode_all(
    items: Sequence[T], decode: Callable[[T], np.ndarray], on_error: str = "stop"
) -> Iterator[tuple[T, np.ndarray]]:
    """Decodes items on all cores and yields them in their order, each with its samples, shape (time,).

    Args:
        decode: raises InputError for what can't be used.
        on_error: "stop", after the last item, with all errors in one; or "skip": they become a warning.

    Raises:
        InputError: some can't be used; names them (up to 10) and how many there are.
    """
    errors = []
    workers = num_workers()
    running: deque[tuple[T, Future[np.ndarray]]] = deque()
    waiting = iter(items)
    pool = ThreadPoolExecutor(workers)  # libsndfile and the resamplers let other threads run
    try:
        for _ in tqdm(items, desc="Reading the corpus", unit="file", disable=None, leave=False):
            while len(running) < 2 * workers and (item := next(waiting, None)) is not None:
                running.append((item, pool.submit(decode, item)))
            item, future = running.popleft()
            try:
                samples = future.result()
            except InputError as error:
                errors.append(error)
            else:
                yield item, samples
    finally:
        pool.shutdown(cancel_futures=True)
    if errors and on_error == "skip":
        log.warning("data.on_error=skip: %d of %d left out: %s", len(errors), len(items), named(errors))
    elif errors:
        count = "this file" if len(errors) == 1 else f"these {len(errors)} of {len(items)} files"
        raise InputError(f"{named(errors)} (data.on_error=skip goes on without {count})")
