import hashlib
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_store import corpus, noise

from separation.app.assembly import build_corpus
from separation.app.settings import compose_config
from separation.data import user_cache
from separation.data.sample_store import open_store, store_root
from separation.data.user_cache import content_digests


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache, in which files count as old at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(user_cache, "CLOCK_STEP", -60.0)
    return tmp_path / "home"


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    digest = user_cache._digest
    monkeypatch.setattr(user_cache, "_digest", lambda file: (names.append(Path(file).name), digest(file))[1])
    return names


def files(root: Path, **contents: bytes) -> list[Path]:
    root.mkdir(exist_ok=True)
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return [root / name for name in contents]


def sha256(*contents: bytes) -> list[str]:
    return [hashlib.sha256(content).hexdigest() for content in contents]


def test_a_file_is_read_again_only_when_it_has_changed(home, opened, tmp_path):
    a, b = files(tmp_path / "corpus", a=b"one", b=b"two")
    for _ in range(2):
        assert content_digests(a.parent, [a, b, a], 2) == sha256(b"one", b"two", b"one")
    assert opened == ["a", "b"]
    times = a.stat()
    a.write_bytes(b"six")
    os.utime(a, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time as before
    assert content_digests(a.parent, [a, b], 2) == sha256(b"six", b"two")
    assert opened == ["a", "b", "a"]


def test_what_could_still_change_unseen_is_not_remembered(home, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(user_cache, "CLOCK_STEP", 60.0)
    paths = files(tmp_path / "corpus", a=b"one")
    for _ in range(2):
        assert content_digests(tmp_path / "corpus", paths, 1) == sha256(b"one")
    assert opened == ["a", "a"]


def test_what_cannot_be_read_has_no_digest(home, opened, tmp_path):
    (tmp_path / "corpus/folder").mkdir(parents=True)
    for _ in range(2):
        assert content_digests(tmp_path / "corpus", [tmp_path / "corpus/folder"], 1) == [""]
    assert opened == ["folder", "folder"]


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"a": 1}', b"\xff", b'{"a": [1, 2]}'])
def test_a_damaged_memory_counts_as_none(damage, home, opened, tmp_path):
    paths = files(tmp_path / "corpus", a=b"one")
    content_digests(tmp_path / "corpus", paths, 1)
    [remembered] = (home / "separation/digests").glob("*.json")
    remembered.write_bytes(damage)
    for _ in range(2):
        assert content_digests(tmp_path / "corpus", paths, 1) == sha256(b"one")
    assert opened == ["a", "a"]


def test_without_a_cache_the_digests_are_right_and_the_user_is_told(home, tmp_path, caplog):
    home.write_text("a file")
    assert content_digests(tmp_path / "corpus", files(tmp_path / "corpus", a=b"one"), 1) == sha256(b"one")
    assert "can't be written (Not a directory); the next run reads the corpus again" in caplog.text


def speech(root: Path):
    settings = ["data=folder", f"data.root={root}", f"data.store={root.parent}/store"]
    return build_corpus(compose_config("config", settings))


def test_a_copy_of_a_corpus_has_the_same_store_and_a_changed_one_another(home, speech_folder, tmp_path):
    store = open_store(speech(shutil.copytree(speech_folder, tmp_path / "first")))
    shutil.copytree(speech_folder, tmp_path / "second", copy_function=shutil.copyfile)  # with other times
    assert open_store(speech(tmp_path / "second")).folder == store.folder
    file = tmp_path / "second/anna/0.wav"
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_store(speech(tmp_path / "second")).folder != store.folder
    file.rename(file.with_name("9.wav"))
    assert len({path for path in (tmp_path / "store").iterdir() if path.is_dir()}) == 2
    assert open_store(speech(tmp_path / "second")).folder != store.folder


def test_every_working_directory_has_the_same_store(home, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    folders = set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        open_store(corpus("cache", *noise(1)))  # as version 0.1 did by default
        folders.add(open_store(replace(corpus("cache", *noise(1)), store=None)).folder.parent)
    assert folders == {home / "separation/stores"} == {store_root(None)}
    words = ": 1 in cache are kept for other files, settings or versions (scripts/store.py lists and removes them)"
    assert caplog.text.count("Building the sample store") == caplog.text.count(words) == 1
