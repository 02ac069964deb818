"""What corpora of audio files share: finding them, decoding them, saying which can't be used."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import ListConfig

from separation.data import audio
from separation.errors import InputError, check_path

NAMED_ERRORS = 10


def corpus_root(root: str) -> Path:
    """The corpus's folder.

    Raises:
        InputError: it is no folder.
    """
    check_path("data.root", root)
    path = Path(root).expanduser()
    if not path.is_dir():
        raise InputError(f"data.root={root}: no such folder; give the folder that holds the corpus")
    return path


def check_held_out(held_out: object, speakers: Iterable[str]) -> None:
    """Raises InputError unless `data.held_out` is a list of the corpus's speakers that leaves some to train on."""
    known = sorted(speakers)
    if not isinstance(held_out, list | ListConfig) or not all(isinstance(name, str) for name in held_out):
        raise InputError(f'data.held_out={held_out}: expected a list of names, as in data.held_out=["{known[0]}"]')
    unknown = sorted(set(held_out) - set(known))
    if unknown:
        raise InputError(f"data.held_out: there is no speaker {', '.join(unknown)}; there are {', '.join(known)}")


def file_fingerprint(root: Path, files: list[Path]) -> list[list[Any]]:
    """Path, size in bytes and modification time in ns of each file."""
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def decode_all(files: list[Path], sample_rate: int) -> Iterator[tuple[Path, np.ndarray]]:
    """Decodes files to mono at `sample_rate` Hz, in their order, shape (time,) each.

    Raises:
        InputError: after the last file, if some can't be used; names them (up to 10) and how many there are.
    """
    errors = []
    for path in files:
        try:
            samples = audio.read_mono(path, sample_rate)
        except InputError as error:
            errors.append(str(error))
        else:
            yield path, samples
    if errors:
        more = f"; and {len(errors) - NAMED_ERRORS} more" if len(errors) > NAMED_ERRORS else ""
        raise InputError("; ".join(errors[:NAMED_ERRORS]) + more)
