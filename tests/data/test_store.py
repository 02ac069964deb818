import logging
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from separation.data import store_writer
from separation.data.corpora.corpus import Corpus, Recording
from separation.data.sample_store import open_store
from separation.errors import InputError

NAMES = "abcdefghijklmnopqrst"


@dataclass(frozen=True, kw_only=True)
class MemoryCorpus(Corpus):
    """Recordings from memory."""

    items: tuple[Recording, ...]
    version: int = 0

    @property
    def name(self) -> str:
        return "memory"

    def fingerprint(self) -> dict[str, Any]:
        return {"version": self.version}

    def recordings(self, done: Collection[str] = ()) -> Iterator[Recording]:
        for item in self.items:
            if item.name == "bad":
                raise InputError("bad: can't be used")
            if item.name not in done:
                yield item


def corpus(store, *samples: np.ndarray, names: str = "abcdef", version: int = 0) -> MemoryCorpus:
    items = tuple(Recording(n, "anna", "train", s.astype(np.float32)) for n, s in zip(names, samples, strict=False))
    return MemoryCorpus(num_train=1, num_valid=1, num_test=1, store=str(store), items=items, version=version)


def test_sixteen_bit_samples_are_stored_exactly_at_any_level(tmp_path):
    random = np.random.default_rng(0)
    loud = random.integers(-32768, 32768, 500) / 32768
    quiet = random.integers(-30, 31, 300) / 32768
    over = 3 * random.standard_normal(200)
    lowest, highest = np.array([-1, 0.5, 32767 / 32768]), np.array([-0.5, 1.0])
    every = (loud, quiet, over, lowest, highest)
    store = open_store(corpus(tmp_path, *every))
    assert [utterance.scale for utterance in store.utterances[3:]] == [2**-15, 2**-14]
    for utterance, samples in zip(store.utterances, every, strict=True):
        read = store.read(utterance, 0, utterance.num_samples)
        np.testing.assert_allclose(read, samples, atol=utterance.scale / 2 * 1.001 if samples is over else 0)
        assert utterance.rms == pytest.approx(np.sqrt(np.mean(samples**2)), rel=1e-5)
    assert store.utterances[1].scale < store.utterances[0].scale == 2**-15
    np.testing.assert_array_equal(store.read(store.utterances[1], 10, 5), quiet[10:15].astype(np.float32))


def test_a_store_is_built_once_and_again_when_its_source_changes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    built = []
    for version in (0, 0, 1):
        store = open_store(corpus(tmp_path, np.ones(10), version=version))
        built.append((store.folder, (store.folder / "samples.i16").stat().st_mtime_ns))
        assert f"Sample store {store.folder}: 0.0 MB, 0.0 min" in caplog.text
    assert built[0] == built[1] and built[2] != built[0]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("names", [("a", "bad"), ("a", "silent")])
def test_a_failed_build_leaves_nothing(tmp_path, names):
    with pytest.raises(InputError, match=names[1]):
        open_store(corpus(tmp_path, np.ones(10), np.zeros(10), names=names))
    assert [path for path in tmp_path.rglob("*") if path.suffix != ".lock"] == []


def noise(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(1000 + 10 * i) / 10 for i in range(count)]


def stored(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Stop(BaseException):
    """As a signal."""


def interrupted(monkeypatch, store, count: int, sync_bytes: int) -> None:
    """A build of 20 recordings that stops before the next after `count`."""
    monkeypatch.setattr(store_writer, "SYNC_BYTES", sync_bytes)
    original, added = store_writer.StoreWriter.add, []

    def add(self, recording):
        if len(added) == count:
            raise Stop
        added.append(recording.name)
        original(self, recording)

    again = corpus(store, *noise(20), names=NAMES)
    with monkeypatch.context() as patch:
        patch.setattr(store_writer.StoreWriter, "add", add)
        with pytest.raises(Stop):
            open_store(again)


@pytest.mark.parametrize(("sync_bytes", "kept"), [(1, 12), (10_000, 10), (10**9, 0)])
def test_an_interrupted_build_goes_on_where_it_was_synced(tmp_path, monkeypatch, sync_bytes, kept, caplog):
    caplog.set_level(logging.INFO)
    whole = open_store(corpus(tmp_path / "whole", *noise(20), names=NAMES))
    interrupted(monkeypatch, tmp_path / "store", 12, sync_bytes)
    assert not [path for path in (tmp_path / "store").iterdir() if path.is_dir() and path.name[0] != "."]
    store = open_store(corpus(tmp_path / "store", *noise(20), names=NAMES))
    assert stored(store.folder) == stored(whole.folder)
    assert (f"Going on with the sample store: {kept} recordings are there" in caplog.text) == (kept > 0)
    assert not list((tmp_path / "store").glob(".*.partial"))


def cut_row(partial) -> None:
    text = (partial / "index.csv").read_text()
    (partial / "index.csv").write_text(text[:-20])


def cut_samples(partial) -> None:
    with open(partial / "samples.i16", "r+b") as file:
        file.truncate(5001)


def change_samples(partial) -> None:
    with open(partial / "samples.i16", "r+b") as file:
        file.seek(7000)
        file.write(b"\0\1\2\3")


def append_samples(partial) -> None:
    with open(partial / "samples.i16", "ab") as file:
        file.write(b"left over from a write without its row")


def empty_index(partial) -> None:
    (partial / "index.csv").write_text("")


def write_nonsense(partial) -> None:
    (partial / "index.csv").write_bytes(bytes(range(256)))


@pytest.mark.parametrize(
    "damage",
    [cut_row, cut_samples, change_samples, append_samples, empty_index, write_nonsense],
    ids=lambda f: f.__name__,
)
def test_of_a_partial_store_nothing_is_trusted_that_is_not_whole(tmp_path, monkeypatch, damage):
    whole = open_store(corpus(tmp_path / "whole", *noise(20), names=NAMES))
    interrupted(monkeypatch, tmp_path / "store", 12, 1)
    [partial] = (tmp_path / "store").glob(".*.partial")
    damage(partial)
    store = open_store(corpus(tmp_path / "store", *noise(20), names=NAMES))
    assert stored(store.folder) == stored(whole.folder)


def test_a_build_killed_at_any_moment_is_gone_on_with(tmp_path):
    whole = open_store(corpus(tmp_path / "whole", *noise(20), names=NAMES))
    code = (
        "import sys, time; from test_store import NAMES, corpus, noise;"
        "from separation.data import sample_store, store_writer;"
        "store_writer.SYNC_BYTES = 1; add = store_writer.StoreWriter.add;"
        "store_writer.StoreWriter.add = lambda self, item: (add(self, item), print('added', flush=True),"
        " time.sleep(.02));"
        "sample_store.open_store(corpus(sys.argv[1], *noise(20), names=NAMES))"
    )
    random = np.random.default_rng(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(4):
        command = [sys.executable, "-c", code, str(tmp_path / "store")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            process.stdout.readline()
            time.sleep(random.uniform(0, 0.1))
            process.kill()
        assert not [path for path in (tmp_path / "store").iterdir() if path.is_dir() and path.name[0] != "."]
    store = open_store(corpus(tmp_path / "store", *noise(20), names=NAMES))
    assert stored(store.folder) == stored(whole.folder)


def test_two_processes_build_a_store_once(tmp_path):
    code = (
        "import sys; from test_store import NAMES, corpus, noise;"
        "from separation.data import sample_store, store_writer;"
        "original = store_writer.StoreWriter.sync;"
        "store_writer.StoreWriter.sync = lambda self: (original(self), print('built'));"
        "sample_store.open_store(corpus(sys.argv[1], *noise(20), names=NAMES))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert b"".join(outputs).count(b"built") == 1


def test_a_full_disk_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        samples = [np.random.default_rng(i).standard_normal(8000) for i in range(20)]
        with pytest.raises(
            InputError, match=r"data.store=.*: can't write .*No space left.*MB are free on its disk\); make"
        ):
            open_store(corpus(disk / "store", *samples, names=NAMES))
        assert [path for path in (disk / "store").iterdir() if path.suffix != ".lock"] == []
        open_store(corpus(disk / "store", *samples[:3], names=NAMES))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_damage_to_samples_is_found_by_their_checksums(tmp_path):
    store = open_store(corpus(tmp_path, *noise(5)))
    assert not any(damaged for _, damaged in store.damaged())
    change_samples(store.folder)
    assert [utterance.name for utterance, damaged in store.damaged() if damaged] == ["d"]


def test_a_damaged_store_is_named(tmp_path):
    open_store(corpus(tmp_path, np.ones(10)))
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    (folder / "samples.i16").write_bytes(b"1234")
    with pytest.raises(InputError, match="is damaged .* remove it to build it again"):
        open_store(corpus(tmp_path, np.ones(10)))


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="data.store=.*file: can't write"):
        open_store(corpus(tmp_path / "file", np.ones(10)))
