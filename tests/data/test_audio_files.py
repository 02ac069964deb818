"""Finding audio in folders as people keep them, and refusing files of which a part is missing."""

import os
import shutil
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import trees

from separation.data.audio_files import audio_files
from separation.data.corpora.file_corpus import corpus_root
from separation.data.decoding import read
from separation.errors import InputError
from separation.runs.paths import as_on_disk, user_path


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in audio_files(root)]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_finds_audio_in_any_depth(tmp_path):
    touch(tmp_path, "b/c/x.WAV", "a.flac", "notes.txt", "z.m4a", "y.w64")
    assert names(tmp_path) == ["a.flac", "b/c/x.WAV", "y.w64", "z.m4a"]


def test_leaves_out_what_nobody_recorded(tmp_path):
    touch(
        tmp_path,
        *("a.wav", ".hidden.wav", "._a.wav", ".ipynb_checkpoints/a-checkpoint.wav", ".Trash-1000/files/b.wav"),
        *("$RECYCLE.BIN/c.wav", "__MACOSX/d.wav", "@eaDir/e.wav", ".git/f.wav", "made/g.wav", "made/CACHEDIR.TAG"),
        *("Trash/h.wav", "__pycache__/i.wav"),
        "kept/cache.wav",
    )
    assert names(tmp_path) == ["a.wav", "kept/cache.wav"]
    assert names(tmp_path / ".git") == ["f.wav"]  # what somebody asks for by name is theirs


def test_follows_links_to_folders_once(tmp_path, caplog):
    touch(tmp_path, "corpus/anna/1.wav", "elsewhere/bert/2.wav")
    root = tmp_path / "corpus"
    (root / "bert").symlink_to(tmp_path / "elsewhere/bert")
    (root / "again").symlink_to(tmp_path / "elsewhere/bert")
    (root / "alias").symlink_to("anna")  # sorts before anna, which is found where it lies
    (root / "anna/loop").symlink_to("..")
    (root / "anna/3.wav").symlink_to("1.wav")
    (root / "gone").symlink_to("nowhere")
    (root / "anna/4.wav").symlink_to("nowhere.wav")
    assert names(root) == ["again/2.wav", "anna/1.wav", "anna/3.wav", "anna/4.wav"]
    assert f"links to what isn't there: {root}/gone" in caplog.text
    with pytest.raises(InputError, match="4.wav: is a link to nowhere.wav, which isn't there"):
        read(root / "anna/4.wav")


def test_names_media_of_other_kinds(tmp_path, caplog):
    touch(tmp_path, "a.wav", "b.mp4", "c.mp4", "d.mov", "e.txt", "f.json", "g.wv1", "h.sph")
    assert names(tmp_path) == ["a.wav", "h.sph"]
    assert "kinds that aren't read (.mov: 1, .mp4: 2, .wv1: 1)" in caplog.text


def test_a_pipe_is_not_waited_for(tmp_path):
    touch(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "b.wav")
    assert names(tmp_path) == ["a.wav"]
    with pytest.raises(InputError, match="b.wav: is no file"):
        read(tmp_path / "b.wav")


def test_half_an_mp3_by_another_name_is_refused(tmp_path):
    encode(tmp_path / "a.mp3")
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="b.wav: ends early"):
        read(tmp_path / "b.wav")


SAMPLES = 0.3 * np.sin(np.cumsum(0.1 + 0.05 * np.sin(np.arange(48_000) / 3000))).astype(np.float32)
LIBSNDFILE = {
    **{"wav": ("WAV", "PCM_16"), "aif": ("AIFF", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")},
    **{"opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "w64": ("W64", "PCM_16"), "au": ("AU", "PCM_16")},
    **{"caf": ("CAF", "PCM_16"), "rf64": ("RF64", "PCM_16")},
}
PYAV = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus"), "wv": ("wv", "wavpack"), "mka": ("matroska", "libopus")}


def encode(path: Path) -> None:
    suffix = path.suffix[1:]
    if suffix in LIBSNDFILE:
        form, subtype = LIBSNDFILE[suffix]
        soundfile.write(path, SAMPLES, 48_000, format=form, subtype=subtype)
        return
    form, codec = PYAV[suffix]
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(SAMPLES[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        converted = av.AudioResampler(format=stream.format.name, layout="mono", rate=48_000).resample(frame)
        for packet in [packet for part in [*converted, None] for packet in stream.encode(part)]:
            container.mux(packet)


@pytest.mark.parametrize("suffix", [*LIBSNDFILE, *PYAV])
def test_every_format_is_read_whole_or_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    encode(path)
    samples, rate = read(path)
    assert rate == 48_000 and samples.shape[1] == 1
    assert abs(len(samples) - len(SAMPLES)) <= 2304  # an encoder's delay
    level = float(np.sqrt(np.square(samples).mean()))
    assert level == pytest.approx(0.3 / 2**0.5, rel=0.05)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.33):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=rf"a.{suffix}: (ends early \(|can't be read as audio \(.+\)).*replace"):
            read(path)


def test_a_recorder_that_was_switched_off_leaves_a_readable_stream(tmp_path):
    """Ogg pages up to where it ended, and MP3 without a count of its frames, are all that there ever was."""
    soundfile.write(tmp_path / "a.ogg", np.tile(SAMPLES, 5), 48_000, format="OGG", subtype="VORBIS")
    whole = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "a.ogg").write_bytes(whole[: whole.rindex(b"OggS")])
    assert 48_000 < len(read(tmp_path / "a.ogg")[0]) < 240_000
    encode(tmp_path / "a.mp3")
    whole = (tmp_path / "a.mp3").read_bytes()
    for header in (b"Xing", b"Info"):
        whole = whole.replace(header, b"\0\0\0\0")
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2])
    assert 5000 < len(read(tmp_path / "a.mp3")[0]) < 48_000


def test_a_name_that_is_not_utf8_is_read_and_can_be_written_down(tmp_path):
    root = os.fsencode(trees_folder(tmp_path))
    os.rename(root + b"/anna/0.wav", root + b"/anna/\xe9t\xe9.wav")
    os.rename(root + b"/bert", root + b"/b\xe9rt")
    data = trees.make_data(["data=folder", f"data.root={tmp_path}/speech"], tmp_path)
    stored = {utterance.name for utterance in data.train.store.utterances}
    assert r"anna/\xe9t\xe9.wav#0" in stored and r"b\xe9rt/0.wav#0" in stored
    assert {utterance.speaker for utterance in data.train.store.utterances} >= {"anna", r"b\xe9rt"}


def trees_folder(tmp_path: Path) -> Path:
    for speaker in ("anna", "bert"):
        for number in range(4):
            trees.write(tmp_path / "speech" / speaker / f"{number}.wav", trees.speech(8000, f"{speaker}{number}"), 8000)
    return tmp_path / "speech"


def test_an_accent_is_found_in_either_unicode_form(tmp_path):
    decomposed, composed = (unicodedata.normalize(form, "Müller/é.wav") for form in ("NFD", "NFC"))
    touch(tmp_path, decomposed)
    assert as_on_disk(tmp_path / composed) == tmp_path / decomposed
    assert user_path("input", str(tmp_path / composed)).is_file()
    assert corpus_root(str(tmp_path / composed.partition("/")[0])).is_dir()
    assert as_on_disk(tmp_path / "Mäller/é.wav") == tmp_path / "Mäller/é.wav"
    touch(tmp_path, composed)  # both are there: each is itself
    assert as_on_disk(tmp_path / composed) == tmp_path / composed


def test_tables_find_files_in_either_unicode_form(tmp_path):
    overrides = trees.tables(tmp_path)
    shutil.move(tmp_path / "test/0_1.wav", tmp_path / unicodedata.normalize("NFD", "test/Café.wav"))
    table = (tmp_path / "test.csv").read_text(encoding="utf-8")
    (tmp_path / "test.csv").write_text(table.replace("0_1.wav", "Café.wav"), encoding="utf-8")
    data = trees.make_data(overrides, tmp_path)
    assert "test:test/Café.wav" in {utterance.name for utterance in data.train.store.utterances}


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("data.root", "~/x") == tmp_path / "x"
    with pytest.raises(InputError, match="data.root=5: expected a path"):
        user_path("data.root", 5)
