import os
import runpy

import pytest
from conftest import ROOT
from test_store import corpus, noise

from separation.data.sample_store import lock_of, open_store
from separation.errors import InputError

SCRIPT = runpy.run_path(str(ROOT / "scripts/store.py"))


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs the program on a folder; returns the lines that it prints."""

    def run(*arguments: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["store.py", f"store={tmp_path}", *arguments])
        SCRIPT["main"]()
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def stores(tmp_path) -> list[str]:
    """Names of a store of 24,450 bytes, of another, whose index is gone, and of a build that was interrupted; and
    beside them what is none of the program's business."""
    whole = open_store(corpus(tmp_path, *noise(10), *noise(2), names="abcdefghijkl")).folder
    damaged = open_store(corpus(tmp_path, *noise(1), version=1)).folder
    (damaged / "index.csv").unlink()
    unfinished = tmp_path / f".memory-0123456789ab.{os.geteuid()}.partial"
    unfinished.mkdir()
    (unfinished / "samples.i16").write_bytes(bytes(2_000_000))
    (tmp_path / "mine").mkdir()
    (tmp_path / "memory-0123456789ab.txt").touch()
    (tmp_path / "memory-ba9876543210").symlink_to(tmp_path / "mine")
    return [whole.name, damaged.name, unfinished.name]


def kept(tmp_path) -> set[str]:
    names = {path.name for path in tmp_path.iterdir()}
    others = {"mine", "memory-0123456789ab.txt", "memory-ba9876543210"}
    assert others <= names
    return names - others


def test_it_lists_what_there_is(call, stores):
    lines = call()
    rows = {line.split()[0]: line.split() for line in lines if "memory" in line}
    assert set(rows) == set(stores)
    whole, damaged, unfinished = (rows[name] for name in stores)
    assert whole[1:4] + whole[5:] == ["12", "0.0", "0.0", "whole"]
    assert damaged[-1] == "damaged" and unfinished[1] == "2.0" and unfinished[-1] == "unfinished"


def test_it_removes_what_is_named(call, stores, tmp_path):
    whole, damaged, unfinished = stores
    with pytest.raises(InputError, match=f"remove=memory: no such store in {tmp_path}; there are .*{damaged}"):
        call("remove=memory")
    call(f"remove={damaged}")
    assert kept(tmp_path) == {whole, f"{whole}.{os.geteuid()}.lock", unfinished}
    call("remove=unfinished")
    assert kept(tmp_path) == {whole, f"{whole}.{os.geteuid()}.lock"}
    call("remove=all")
    assert kept(tmp_path) == set()
    assert call()[-1] == "no sample stores"


def test_what_is_being_built_stays(call, stores, tmp_path):
    with lock_of(tmp_path / "memory-0123456789ab"):
        assert call("remove=unfinished")[-1].endswith("a process is building it")
    assert stores[2] in kept(tmp_path)


def test_what_others_have_made_stays_unless_it_is_named(call, stores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert "another user's" in call()[-1]
    call("remove=all")
    assert set(stores) <= kept(tmp_path)
    call(f"remove=[{stores[0]},{stores[1]}]")
    assert not {*stores[:2]} & kept(tmp_path)
