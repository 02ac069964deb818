from collections import Counter

import numpy as np
import pytest
import soundfile

from separation.data.corpora.fsdd import FsddCorpus
from separation.errors import InputError

COUNTS = {"num_train": 1, "num_valid": 1, "num_test": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three speakers, two digits, twelve takes of 0.5 s; a sample's value tells its take."""
    root = tmp_path_factory.mktemp("fsdd")
    (root / "recordings").mkdir()
    for speaker in ("theo", "george", "lucas"):
        for digit in range(2):
            for index in range(12):
                samples = np.full(4000, (index + 1) / 100)
                soundfile.write(root / "recordings" / f"{digit}_{speaker}_{index}.wav", samples, 8000)
    return root


def takes(samples: np.ndarray) -> set[int]:
    """Which takes an utterance is joined of."""
    return {round(value * 100) - 1 for value in np.unique(samples)}


def test_splits_are_the_official_ones_and_utterances_four_seconds(root):
    recordings = list(FsddCorpus(root=str(root), **COUNTS).recordings())
    allowed = {"test": set(range(5)), "valid": set(range(5, 10)), "train": {10, 11}}
    for recording in recordings:
        assert recording.samples.shape == (32000,)
        assert takes(recording.samples) <= allowed[recording.split]
    # 10 files of 0.5 s, four times over, make five utterances; 4 files make two.
    assert Counter((r.speaker, r.split) for r in recordings)["theo", "test"] == 5
    assert Counter((r.speaker, r.split) for r in recordings)["theo", "train"] == 2
    assert len({recording.name for recording in recordings}) == len(recordings)


def test_held_out_speakers_are_only_in_test_unknown(root):
    recordings = list(FsddCorpus(root=str(root / "recordings"), held_out=["lucas"], **COUNTS).recordings())
    assert {r.split for r in recordings if r.speaker == "lucas"} == {"test_unknown"}
    assert {r.speaker for r in recordings if r.split == "test_unknown"} == {"lucas"}
    assert all(takes(r.samples) <= set(range(5)) for r in recordings if r.speaker == "lucas")


def test_recordings_do_not_change_from_run_to_run(root):
    first, second = (list(FsddCorpus(root=str(root), **COUNTS).recordings()) for _ in range(2))
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(first, second, strict=True))


def test_bad_roots_are_named(root, tmp_path):
    for path, words in ((tmp_path / "none", "no such folder"), (tmp_path, "holds no files named like")):
        with pytest.raises(InputError, match=f"data.root={path}: {words}"):
            list(FsddCorpus(root=str(path), **COUNTS).recordings())
    with pytest.raises(InputError, match="there is no speaker nobody; there are george, lucas, theo"):
        list(FsddCorpus(root=str(root), held_out=["nobody"], **COUNTS).recordings())
