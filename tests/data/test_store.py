import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from separation.data.corpus import Corpus, Recording
from separation.data.store import open_store
from separation.errors import InputError


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

    def recordings(self) -> Iterator[Recording]:
        for item in self.items:
            if item.name == "bad":
                raise InputError("bad: can't be used")
            yield item


def corpus(store, *samples: np.ndarray, names: str = "abcdef", version: int = 0) -> MemoryCorpus:
    items = tuple(Recording(n, "anna", "train", s.astype(np.float32)) for n, s in zip(names, samples, strict=False))
    return MemoryCorpus(num_train=1, num_valid=1, num_test=1, store=str(store), items=items, version=version)


def test_sixteen_bit_samples_are_stored_exactly_at_any_level(tmp_path):
    random = np.random.default_rng(0)
    loud = random.integers(-32768, 32768, 500) / 32768
    quiet = random.integers(-30, 31, 300) / 32768
    over = 3 * random.standard_normal(200)
    store = open_store(corpus(tmp_path, loud, quiet, over))
    for utterance, samples in zip(store.utterances, (loud, quiet, over), strict=True):
        read = store.read(utterance, 0, utterance.num_samples)
        np.testing.assert_allclose(read, samples, atol=utterance.scale / 2 * 1.001 if samples is over else 0)
        assert utterance.rms == pytest.approx(np.sqrt(np.mean(samples**2)), rel=1e-5)
    assert store.utterances[1].scale < store.utterances[0].scale == 2**-15
    np.testing.assert_array_equal(store.read(store.utterances[1], 10, 5), quiet[10:15].astype(np.float32))


def test_a_store_is_built_once_and_again_when_its_source_changes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for version in (0, 0, 1):
        open_store(corpus(tmp_path, np.ones(10), version=version))
    assert caplog.text.count("Sample store") == 2
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize("names", [("a", "bad"), ("a", "silent")])
def test_a_failed_build_leaves_nothing(tmp_path, names):
    with pytest.raises(InputError, match=names[1]):
        open_store(corpus(tmp_path, np.ones(10), np.zeros(10), names=names))
    assert [path for path in tmp_path.rglob("*") if path.suffix != ".lock"] == []


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
