import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import call_program, voice

from separation.app import separate
from separation.app.separate import Outputs, find_inputs
from separation.data.decoding import read
from separation.errors import InputError


def write_voices(path: Path, rate: int = 8000, gain: float = 1.0) -> np.ndarray:
    mixture = gain * (voice(120, 1.5, rate, 0) + voice(230, 1.5, rate, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([mixture, mixture], 1), rate)
    return mixture


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_separate_program(make_run, tmp_path):
    mixture = write_voices(tmp_path / "in/sub/talk.flac", rate=22050)
    result = call_program("separate.py", f"run={make_run()}", "input=in", "output=out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert names(tmp_path / "out") == ["sub/talk_source1.wav", "sub/talk_source2.wav"]
    assert result.stdout.splitlines() == ["out/sub/talk_source1.wav", "out/sub/talk_source2.wav"]
    assert "1.5 s of audio in " in result.stderr and "real-time factor" in result.stderr
    samples, rate = read(tmp_path / "out/sub/talk_source1.wav")
    assert (samples.shape, rate) == ((len(mixture), 2), 22050)
    assert soundfile.info(tmp_path / "out/sub/talk_source1.wav").subtype == "FLOAT"


def test_a_batch_goes_on_past_bad_files_and_names_them(make_run, tmp_path):
    write_voices(tmp_path / "in/0.wav")
    write_voices(tmp_path / "in/0.flac")
    write_voices(tmp_path / "in/z.wav")
    (tmp_path / "in/b.wav").write_text("no audio")
    whole = (tmp_path / "in/0.wav").read_bytes()
    (tmp_path / "in/c.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "in/d.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    (tmp_path / "out/e_source1.wav").mkdir(parents=True)  # a folder in the way
    write_voices(tmp_path / "in/e.wav")
    arguments = [f"run={make_run()}", "input=in", "output=out", "overwrite=true", "format=flac16"]
    result = call_program("separate.py", *arguments, cwd=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    end = result.stderr[result.stderr.index("3 of 7 recordings weren't separated") :].splitlines()
    for line, words in zip(end[1:], ("b.wav: can't be read", "c.wav: ends early", "d.wav: holds NaN"), strict=True):
        assert words in line
    good = ["0.flac", "0.wav", "e", "z"]
    assert names(tmp_path / "out") == [f"{name}_source{number}.flac" for name in good for number in (1, 2)]
    assert soundfile.info(tmp_path / "out/z_source1.flac").subtype == "PCM_16"


def test_nothing_is_overwritten_without_a_word(make_run, tmp_path):
    write_voices(tmp_path / "in/a.wav")
    write_voices(tmp_path / "in/b.wav")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b_source2.wav").write_text("mine")
    arguments = ["separate.py", f"run={make_run()}", "input=in", "output=out"]
    result = call_program(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "error: out/b_source2.wav: exists already; give overwrite=true, or another output" in result.stderr
    assert names(tmp_path / "out") == ["b_source2.wav"] and (tmp_path / "out/b_source2.wav").read_text() == "mine"
    assert call_program(*arguments, "overwrite=true", cwd=tmp_path).returncode == 0
    assert len(names(tmp_path / "out")) == 4 and len(read(tmp_path / "out/b_source2.wav")[0]) == 12_000


def test_clipping_is_told(make_run, tmp_path):
    soundfile.write(tmp_path / "loud.wav", 40 * voice(120, 1.5, 8000, 0), 8000, subtype="FLOAT")
    arguments = [f"run={make_run()}", "input=loud.wav", "output=out", "format=wav16"]
    result = call_program("separate.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for number in (1, 2):
        count = (np.abs(read(tmp_path / f"out/loud_source{number}.wav")[0]) >= 1 - 2**-15).sum()
        assert (
            count > 100
            and f"out/loud_source{number}.wav: {count} samples were clipped; use format=wav" in result.stderr
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["input=nothing"], "input=nothing: no such file or folder"),
        (["input=empty"], "input=empty: holds no audio files"),
        (["input=bad.wav"], "error: bad.wav: can't be read as audio"),
        (["input=bad.wav", "overlap_seconds=0.4"], "overlap_seconds=0.4: expected a number from 0.5 to 15"),
        (["input=bad.wav", "format=mp3"], "format=mp3: expected one of wav, wav16, flac, flac16"),
        (["input=bad.wav", "overwrite=1"], "overwrite=1: expected true or false"),
        ([], "input"),
    ],
)
def test_bad_inputs_end_with_a_sentence(arguments, words, make_run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.wav").write_text("no audio")
    result = call_program("separate.py", f"run={make_run()}", *arguments, cwd=tmp_path)
    assert result.returncode in (1, 2) and words in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "separated").exists() or not names(tmp_path / "separated")


def test_recordings_of_one_name_get_outputs_of_their_own(tmp_path):
    for name in ("0.wav", "0.flac", "0.wav.flac", "1.wav", "1/0.wav", "talk.v2.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    targets = find_inputs(tmp_path / "in", tmp_path / "out")
    assert {
        file.relative_to(tmp_path / "in").as_posix(): target.relative_to(tmp_path / "out").as_posix()
        for file, target in targets.items()
    } == {
        "0.wav": "0.wav",
        "0.flac": "0.flac",
        "0.wav.flac": "0.wav.flac",
        "1.wav": "1",
        "1/0.wav": "1/0",
        "talk.v2.wav": "talk.v2",
    }


def test_many_recordings_are_found_in_seconds(tmp_path, monkeypatch):
    files = [tmp_path / f"in/{number % 100}/{number}.wav" for number in range(100_000)]
    monkeypatch.setattr(separate, "audio_files", lambda _: files)
    (tmp_path / "in").mkdir()
    begun = time.process_time()
    targets = find_inputs(tmp_path / "in", tmp_path / "out")
    Outputs(2, "wav").check_new(list(targets.values()))
    assert time.process_time() - begun < 20  # 3 to 5 where nothing else runs; comparing each with each took an hour
    assert len(set(targets.values())) == 100_000
    (tmp_path / "out/7").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / f"out/7/7_source{number}.wav").touch()
    with pytest.raises(InputError, match="7_source1.wav: exists already, and 1 more;"):
        Outputs(2, "wav").check_new(list(targets.values()))
