import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
import trees

from separation.data.corpora.folder import FolderCorpus
from separation.errors import InputError


def corpus(root, **settings) -> FolderCorpus:
    return FolderCorpus(**{"root": str(root), "num_train": 1, "num_valid": 1, "num_test": 1, **settings})


def test_each_speaker_is_in_every_split(speech_folder):
    recordings = list(corpus(speech_folder).recordings())
    counts = Counter((recording.speaker, recording.split) for recording in recordings)
    assert len(recordings) == 24
    for speaker in ("anna", "bert", "carl", "dora"):
        assert [counts[speaker, split] for split in ("train", "valid", "test")] == [4, 1, 1]


def test_held_out_speakers_are_only_in_test_unknown(speech_folder):
    recordings = list(corpus(speech_folder, held_out=["dora", "anna"]).recordings())
    assert {r.speaker for r in recordings if r.split == "test_unknown"} == {"anna", "dora"}
    assert {r.speaker for r in recordings if r.split != "test_unknown"} == {"bert", "carl"}


def test_any_rate_channels_depth_and_length(tmp_path):
    random = np.random.default_rng(0)
    for speaker in ("x", "y"):
        (tmp_path / speaker / "deep" / "er").mkdir(parents=True)
        for rate, name in ((44100, "a.flac"), (12000, "b.wav"), (48000, "c.aiff")):
            noise = 0.1 * random.standard_normal((rate * 5, 2))
            noise[rate * 9 // 10 : rate * 21 // 10] = 0  # a piece of silence, and a little on either side
            soundfile.write(tmp_path / speaker / "deep" / "er" / name, noise, rate)
    recordings = list(corpus(tmp_path, segment_seconds=1.0).recordings())
    assert len(recordings) == 2 * 3 * 4
    # The silence reaches into the pieces on either side, where it is trimmed.
    assert all(7000 < len(recording.samples) <= 8000 for recording in recordings)
    # Pieces of one file stay in one split.
    splits = {(r.name.split("#")[0], r.split) for r in recordings}
    assert len(splits) == 6


def test_one_long_file_a_speaker_is_enough(tmp_path):
    for speaker in ("x", "y"):
        (tmp_path / speaker).mkdir()
        soundfile.write(tmp_path / speaker / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(80000), 8000)
    assert Counter(r.split for r in corpus(tmp_path).recordings()) == {"train": 2}  # no split has less than a piece
    counts = Counter(r.split for r in corpus(tmp_path, segment_seconds=2.0).recordings())
    assert counts == {"train": 6, "valid": 2, "test": 2}


def test_every_unusable_file_is_named_at_once(tmp_path, speech_folder):
    shutil.copytree(speech_folder, tmp_path / "copy")
    (tmp_path / "copy/anna/0.wav").write_bytes(b"")
    soundfile.write(tmp_path / "copy/bert/1.wav", np.zeros(900), 8000)
    with pytest.raises(InputError, match=r"anna/0.wav: can't be read.*bert/1.wav: is silent"):
        list(corpus(tmp_path / "copy").recordings())


def test_bad_settings_are_named(tmp_path, speech_folder):
    (tmp_path / "anna").mkdir()
    with pytest.raises(InputError, match="holds no speaker; expected one sub-folder"):
        list(corpus(tmp_path).recordings())
    shutil.copy(speech_folder / "anna/0.wav", tmp_path / "anna")
    with pytest.raises(InputError, match=r"holds only one speaker \(anna\)"):
        list(corpus(tmp_path).recordings())
    with pytest.raises(InputError, match="data.held_out: there is no speaker eve; there are anna"):
        list(corpus(speech_folder, held_out=["eve"]).recordings())
    for key, value in {"valid_share": 0.7, "test_share": 0.0, "segment_seconds": -1.0, "num_test": 0}.items():
        with pytest.raises(InputError, match=f"data.{key}={value}: expected"):
            corpus(speech_folder, **{key: value})


def test_a_link_to_nowhere_is_named_with_the_other_bad_files(tmp_path, speech_folder):
    shutil.copytree(speech_folder, tmp_path / "copy")
    (tmp_path / "copy/anna/7.wav").symlink_to("nowhere.wav")
    with pytest.raises(InputError, match=r"7.wav: is a link to nowhere.wav, which isn't there"):
        trees.make_data(["data=folder", f"data.root={tmp_path}/copy"], tmp_path)
    data = trees.make_data(["data=folder", f"data.root={tmp_path}/copy", "data.on_error=skip"], tmp_path)
    assert len(data.train.store.utterances) == 24
