"""Mixtures that CSV files list, anybody's or LibriMix's.

Columns: `mixture_ID`, `source_1_path`, `source_2_path`, ..., and perhaps `mixture_path`, `noise_path`, a gain for each
(`source_1_gain`), a speaker for each source (`source_1_speaker`).
"""

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, Entry, ListedCorpus, check_noise
from separation.data.corpora.corpus import TEST, TRAIN, VALID, ListedMixture
from separation.errors import InputError, check_path
from separation.runs.paths import as_on_disk, user_path

LARGEST_GAIN = 1e4
CAN_NAME_A_FOLDER = re.compile(r"[^\x00-\x1f/\\.][^\x00-\x1f/\\]*")
LONGEST_NAME = 200
"""In bytes, as file systems count; they allow 255."""


@dataclass(frozen=True, kw_only=True)
class TableCorpus(ListedCorpus):
    """Mixtures of files of any rate, as three tables list them (columns: see above).

    Args:
        train, valid, test: CSV files. Their relative paths begin at `root`.
        num_sources: sources of each mixture.
        noise: add the files of the column `noise_path`.
    """

    train: str
    valid: str
    test: str
    num_sources: int
    noise: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.noise, self.dynamic)
        for key in (TRAIN, VALID, TEST):
            check_path(f"data.{key}", getattr(self, key))

    @property
    def name(self) -> str:
        return "csv"

    def list_files(self) -> Catalogue:
        tables = {split: [user_path(f"data.{split}", getattr(self, split))] for split in (TRAIN, VALID, TEST)}
        return list_tables(tables, file_corpus.corpus_root(self.root), self.num_sources, self.noise)


def list_tables(
    tables: dict[str, list[Path]],
    root: Path,
    num_sources: int,
    noise: bool,
    speaker: Callable[[Path], str] = lambda path: "",
) -> Catalogue:
    """Lists the mixtures of CSV files and the recordings in them, each recording once.

    Args:
        tables: each split's files.
        root: where relative paths begin.
        num_sources: sources of each mixture.
        noise: whether the noise belongs to the mixtures.
        speaker: whose recording a file is, where the table doesn't say.

    Raises:
        InputError: a table can't be used, or files in it aren't there.
    """
    entries: dict[tuple[Path, str], Entry] = {}
    catalogue = Catalogue([], {})
    for split, paths in tables.items():
        catalogue.mixtures[split] = []
        for path in paths:
            catalogue.mixtures[split] += _list_table(path, split, root, num_sources, noise, speaker, entries)
    _check_names(catalogue, tables)
    missing = [path for (path, _) in entries if not path.is_file()]
    if missing:
        raise InputError(
            f"data.root={root}: {len(missing)} of the {len(entries)} files that the tables name aren't there:"
            f" {file_corpus.named(missing, ', ')}; give the folder where the tables' paths begin, or make the paths"
            " relative to it"
        )
    catalogue.entries.extend(entries.values())
    return catalogue


def _list_table(
    path: Path,
    split: str,
    root: Path,
    num_sources: int,
    noise: bool,
    speaker: Callable[[Path], str],
    entries: dict[tuple[Path, str], Entry],
) -> Iterator[ListedMixture]:
    """One table's mixtures; adds its recordings to `entries`."""
    parts = [f"source_{number + 1}" for number in range(num_sources)] + ["noise"] * noise
    for line, row in enumerate(_read(path, num_sources, noise), start=2):
        recordings = []
        for part in parts:
            name = row[f"{part}_path"]
            file = as_on_disk(root / name)
            whose = "" if part == "noise" else row.get(f"{part}_speaker") or speaker(file)
            recordings.append(entries.setdefault((file, split), Entry(f"{split}:{name}", whose, split, (file,))).name)
        yield ListedMixture(
            name=row["mixture_ID"],
            sources=tuple(recordings[:num_sources]),
            gains=tuple(_gain(path, line, row, f"{part}_gain") for part in parts),
            noise=recordings[-1] if noise else None,
            file=as_on_disk(root / row["mixture_path"]) if row.get("mixture_path") else None,
        )


def _check_names(catalogue: Catalogue, tables: dict[str, list[Path]]) -> None:
    """Raises InputError unless every mixture has a name of its own that can name a folder."""
    for split, rows in catalogue.mixtures.items():
        seen: set[str] = set()
        for row in rows:
            long = len(row.name.encode()) > LONGEST_NAME
            if long or row.name in seen or not CAN_NAME_A_FOLDER.fullmatch(row.name):
                raise InputError(
                    f"{', '.join(map(str, tables[split]))}: mixture_ID={row.name}: expected another plain name for each"
                    f" mixture, of at most {LONGEST_NAME} bytes in UTF-8"
                )
            seen.add(row.name)


def _read(path: Path, num_sources: int, noise: bool) -> list[dict[str, str]]:
    """A table's rows, all of the columns that are needed."""
    needed = ["mixture_ID", *(f"source_{number + 1}_path" for number in range(num_sources)), *["noise_path"] * noise]
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: isn't UTF-8 (UTF-16 or Latin-1, perhaps); save it as CSV UTF-8") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as a table ({error})") from error
    if not rows:
        raise InputError(f"{path}: lists no mixtures")
    lacking = [column for column in needed if column not in rows[0]]
    header = list(map(str, rows[0]))
    if lacking and len(header) == 1 and (other := re.search(r"[;\t|]", header[0])):
        name = {";": "semicolons", "\t": "tabs", "|": "bars"}[other[0]]
        raise InputError(f"{path}: its columns are separated by {name}; save it with commas")
    if lacking and set(lacking) <= {column.strip() for column in header}:
        raise InputError(f"{path}: has spaces beside its commas, as in {header}; save it without")
    if lacking:
        raise InputError(f"{path}: has no column {', '.join(lacking)}; it has {', '.join(map(str, rows[0]))}")
    for line, row in enumerate(rows, start=2):
        padded = [row[column] for column in needed if row[column] and row[column] != row[column].strip()]
        if padded:
            raise InputError(f"{path}, line {line}: {padded[0]!r}: has spaces beside the comma; save it without")
        empty = [column for column in needed if not row[column]]
        if empty or None in row.values() or None in row:
            what = ", ".join(empty) or "too few or too many columns"
            raise InputError(f"{path}, line {line}: {what}: expected a value in each column")
    if f"source_{num_sources + 1}_path" in rows[0]:
        raise InputError(f"mixing.num_sources={num_sources}: {path} lists mixtures of more sources; use their number")
    return rows


def _gain(path: Path, line: int, row: dict[str, str], column: str) -> float:
    """A gain; 1 where the table has no such column."""
    if column not in row:
        return 1.0
    try:
        gain = float(row[column])
    except ValueError:
        gain = math.nan
    if not 0 < gain <= LARGEST_GAIN:
        raise InputError(
            f"{path}, line {line}: {column}={row[column]}: expected a number above 0, at most {LARGEST_GAIN:g}"
        )
    return gain
