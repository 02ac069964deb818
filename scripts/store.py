"""Lists the sample stores: `python scripts/store.py [store=FOLDER]`, and removes some: `remove=NAME`,
`remove=[NAME,...]`, `remove=unfinished` (what interrupted builds left) or `remove=all`.

The last two take only what is yours, and none takes what a process is building. Whatever needs a store that is gone
builds it again.
"""

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from filelock import Timeout
from omegaconf import ListConfig

from separation.app.command import entry_point
from separation.app.settings import arguments, compose_config
from separation.data.sample_store import SampleStore, lock_of, store_root
from separation.errors import InputError, check_path
from separation.runs.summaries import table

STORE = re.compile(r"\w+-[0-9a-f]{12}")
PARTIAL = re.compile(r"\.(\w+-[0-9a-f]{12})(\.\d+)?\.partial")
"""Version 0.1 left the user's number out."""


def find_stores(root: Path) -> list[Path]:
    """The stores below a folder, whole ones and such as builds have left, or are building; nothing else."""
    folders = sorted(path for path in root.glob("*") if path.is_dir() and not path.is_symlink())
    return [path for path in folders if STORE.fullmatch(path.name) or PARTIAL.fullmatch(path.name)]


def is_mine(folder: Path) -> bool:
    """Whether this user has made it."""
    return folder.stat().st_uid == os.geteuid()


def row(folder: Path) -> list[str]:
    """A store's line in the table."""
    size = f"{sum(file.stat().st_size for file in folder.glob('*')) / 1e6:.1f}"
    date = datetime.fromtimestamp(folder.stat().st_mtime).strftime("%Y-%m-%d")
    owner = "" if is_mine(folder) else ", another user's"
    if PARTIAL.fullmatch(folder.name):
        return [folder.name, "", "", size, date, f"unfinished{owner}"]
    try:
        rate = json.loads((folder / "source.json").read_text(encoding="utf-8"))["sample_rate"]
        store = SampleStore(folder, rate)
    except (OSError, ValueError, KeyError, TypeError):
        return [folder.name, "", "", size, date, f"damaged{owner}"]
    minutes = f"{store.num_samples / rate / 60:.1f}"
    return [folder.name, str(len(store.utterances)), minutes, size, date, f"whole{owner}"]


def chosen(stores: list[Path], names: object, root: Path) -> list[Path]:
    """The stores that are to be removed.

    Raises:
        InputError: there is none of a name.
    """
    if names == "all":
        return [folder for folder in stores if is_mine(folder)]
    if names == "unfinished":
        return [folder for folder in stores if is_mine(folder) and PARTIAL.fullmatch(folder.name)]
    by_name = {folder.name: folder for folder in stores}
    wanted = list(names) if isinstance(names, ListConfig) else [names]
    for name in wanted:
        if name not in by_name:
            raise InputError(f"remove={name}: no such store in {root}; there are {', '.join(by_name) or 'none'}")
    return [by_name[str(name)] for name in wanted]


def remove(folder: Path) -> None:
    """Removes a store, unless it is being built.

    Raises:
        InputError: it may not be removed.
    """
    match = PARTIAL.fullmatch(folder.name)
    lock = lock_of(folder.with_name(match[1]) if match else folder)
    try:
        with lock.acquire(timeout=0):
            shutil.rmtree(folder)
            Path(lock.lock_file).unlink()
        print(f"removed {folder}")
    except Timeout:
        print(f"left {folder}: a process is building it")
    except OSError as error:
        raise InputError(f"{error.filename}: can't be removed ({error.strerror}); ask its owner") from error


def main() -> None:
    """Lists, or removes."""
    program = compose_config("store", arguments(__doc__, "store"))
    if program.store is not None:
        check_path("store", program.store)
    root = store_root(program.store)
    stores = find_stores(root)
    if program.remove is not None:
        for folder in chosen(stores, program.remove, root):
            remove(folder)
        return
    print(f"{root}\n")
    header = ["sample store", "recordings", "minutes", "MB", "built", "state"]
    print(table(header, [row(folder) for folder in stores]) if stores else "no sample stores")


if __name__ == "__main__":
    entry_point(main)
