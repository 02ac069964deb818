"""Other users' files, folders that can't be written, and what is said of each."""

import errno
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_program
from test_store import NAMES, MemoryCorpus, corpus, noise, stored

from separation.app import evaluate, separate
from separation.data import audio
from separation.data.sample_store import lock_of, open_store
from separation.data.store_writer import StoreWriter
from separation.errors import InputError
from separation.runs import checkpoint
from separation.runs.atomic_files import check_writable, write_error, write_text

NOBODY = 65534


@pytest.fixture
def as_user(monkeypatch):
    """Lets this process count as another user, as far as names go."""
    return lambda number: monkeypatch.setattr(os, "geteuid", lambda: number)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which everybody may write, but nobody remove others' files, as in /tmp."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def test_another_users_build_stops_nobodys(tmp_path, as_user):
    whole = open_store(corpus(tmp_path / "whole", *noise(20), names=NAMES))
    shop = tmp_path / "shop"
    shop.mkdir()
    as_user(1)
    (shop / f".{whole.folder.name}.1.partial").mkdir()
    with lock_of(shop / whole.folder.name):  # user 1 is building
        as_user(2)
        store = open_store(corpus(shop, *noise(20), names=NAMES))
    assert stored(store.folder) == stored(whole.folder)
    assert (shop / f".{whole.folder.name}.1.partial").is_dir()


def test_who_builds_second_takes_what_the_first_has_built(tmp_path, as_user):
    class Meanwhile(MemoryCorpus):
        def recordings(self, done=()):
            yield from super().recordings(done)
            as_user(1)
            open_store(corpus(tmp_path, *noise(3)))
            as_user(2)

    as_user(2)
    plain = corpus(tmp_path, *noise(3))
    store = open_store(Meanwhile(**vars(plain)))
    assert [utterance.name for utterance in store.utterances] == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == [store.folder.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_anothers_locks_and_leftovers_stop_no_build(shared):
    name = open_store(corpus(shared / "as_root", *noise(2))).folder.name
    for left in (f"{name}.lock", f"{name}.0.lock", "memory-0123456789ab.lock", "memory-0123456789ab.0.lock"):
        (shared / left).touch(0o600)
    for left in (f".{name}.partial", ".memory-0123456789ab.partial", f".memory-0123456789ab.{NOBODY}.partial"):
        (shared / left).mkdir(0o700)
    os.seteuid(NOBODY)
    try:
        assert len(open_store(corpus(shared, *noise(2))).utterances) == 2
        with pytest.raises(InputError, match=r"can't write .*\(Permission denied\); choose another folder$"):
            open_store(corpus(shared / "as_root", *noise(2), version=1))
        os.seteuid(0)
        (shared / "as_root" / name).chmod(0o700)
        os.seteuid(NOBODY)
        with pytest.raises(InputError, match=rf"{name}: can't be read \(Permission denied\); have its owner allow it"):
            open_store(corpus(shared / "as_root", *noise(2)))
    finally:
        os.seteuid(0)


ERRORS = {errno.ENOSPC: True, errno.EDQUOT: True, errno.EACCES: False, errno.EROFS: False, errno.EIO: False}
"""Whether room helps."""


@pytest.mark.parametrize("number", [*ERRORS, errno.EPERM, errno.ENAMETOOLONG, errno.EFBIG])
def test_room_helps_only_where_there_is_none(number, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    text = str(write_error(tmp_path / "last.pt", OSError(number, os.strerror(number))))
    monkeypatch.setattr(StoreWriter, "add", fail)
    with pytest.raises(InputError) as raised:
        open_store(corpus(tmp_path, *noise(1)))
    for sentence, key in ((text, "run_dir"), (str(raised.value), "folder")):
        assert os.strerror(number) in sentence and f"choose another {key}" in sentence
        assert ("make room" in sentence) == ERRORS.get(number, False)
        assert ("MB are free on its disk" in sentence) == (number == errno.ENOSPC)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 100 kB: an error that the system has for any user."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_the_system_says_is_passed_on_by_libraries(small_files, tmp_path):
    with pytest.raises(InputError, match=r"last.pt: can't be written \(File too large\); choose another run_dir"):
        checkpoint.save(tmp_path / "last.pt", {"network": torch.zeros(10**5)})
    for write in (
        lambda path: audio.write(path, np.zeros(10**5, np.float32), 8000),
        lambda path: write_text(path, "x" * 10**6),
    ):
        with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/file'"):
            write(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    (tmp_path / "file").touch()
    check_writable("output", tmp_path / "new/folder")
    check_writable("output", tmp_path)
    for folder, reason in (("file/x", "Not a directory"), ("漢" * 100, "File name too long")):
        with pytest.raises(InputError, match=rf"output={tmp_path}/{folder}: can't be written \({reason}\); choose ano"):
            check_writable("output", tmp_path / folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class BegunError(Exception):
    """The work has begun."""


@pytest.mark.parametrize(
    ("program", "main", "begin"),
    [
        ("evaluate", lambda: evaluate.evaluate_run(sys.argv[1:]), "evaluate.run_config"),
        ("separate", separate.separate, "model.load_model"),
    ],
)
def test_where_nothing_can_be_written_no_work_begins(
    program, main, begin, make_run, speech_folder, tmp_path, monkeypatch
):
    def work(*_: object, **__: object) -> None:
        raise BegunError

    (tmp_path / "file").touch()
    arguments = [f"run={make_run()}", *[f"input={speech_folder}"] * (program == "separate")]
    monkeypatch.setattr(f"separation.app.{begin}", work)
    for output, error in ((tmp_path / "file/new", InputError), (tmp_path / "new", BegunError)):
        monkeypatch.setattr("sys.argv", [f"{program}.py", *arguments, f"output={output}"])
        with pytest.raises(error) as raised:
            main()
        assert error is BegunError or str(raised.value).startswith(
            f"output={output}: can't be written (Not a directory)"
        )


def test_so_with_the_check_of_a_corpus(speech_folder, tmp_path):
    (tmp_path / "file").touch()
    arguments = ["data=folder", f"data.root={speech_folder}", f"data.store={tmp_path}/store", "output=file/check"]
    result = run_program("scripts/check_data.py", *arguments, cwd=tmp_path)
    assert result.returncode == 1 and "output=file/check: can't be written (Not a directory)" in result.stderr
    assert not (tmp_path / "store").exists()


def test_the_longest_name_of_a_file_has_room_for_writing_it(tmp_path):
    write_text(tmp_path / ("漢" * 85), "text")
    assert (tmp_path / ("漢" * 85)).read_text() == "text"
