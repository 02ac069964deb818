"""Paths on the command line are taken literally, whatever is in their names."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import ROOT, TINY, call_program
from hydra.core.override_parser.overrides_parser import OverridesParser

from separation.app.literal_paths import literal, with_keys
from separation.app.settings import compose_config
from separation.errors import InputError

NAMES = [
    *(
        "中文.wav",
        "talk (1).wav",
        "a,b.wav",
        "it's.wav",
        "Müller & Söhne.wav",
        "x=y.wav",
        "[a].wav",
        "{b}.wav",
        "a#b.wav",
    ),
    *("50%.wav", "a;b.wav", "a b.wav", '"q" x.wav', "back\\slash.wav", "end\\", "1", "1e5", "true", "Off", "$HOME.wav"),
    *(
        "${x}.wav",
        "*.wav",
        "a?b.wav",
        "!x.wav",
        "~user.wav",
        "^a",
        "a|b",
        "<x>",
        "😀.wav",
        "a\tb",
        "-5.wav",
        "a\\'b",
        " x ",
    ),
    *("runs/sweep/clip=autoclip,clip.p=10,seed=1", "@y", ":z", "+x", "1:2", "0x1f", "1_000", "(a)", "'half quoted"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["input", "output"])
def test_every_name_arrives_as_it_was_typed(key, name):
    config = compose_config("separate", ["run=x", "input=x", literal(f"{key}={name}")])
    assert config[key] == name


@pytest.mark.parametrize("name", [name for name in NAMES if "$" not in name])
def test_folders_of_corpora_and_runs_too(name):
    config = compose_config("config", [literal(f"data.root={name}"), literal(f"run_dir={name}"), "data=folder"])
    assert (config.data.root, config.run_dir) == (name, name)


def test_what_is_no_path_or_is_quoted_is_hydras():
    for argument in (
        "model.hidden_size=8",
        "data.train=[a,b]",
        "output=null",
        "run='a b'",
        'run="a,b"',
        "+run=a b",
        "x",
    ):
        assert literal(argument) == argument
    assert compose_config("config", [literal("run_dir=runs/${seed}")]).run_dir == "runs/0"
    tables = [literal(f"data.{split}=my table, {split}.csv") for split in ("train", "valid", "test")]
    assert compose_config("config", ["data=csv", *tables]).data.valid == "my table, valid.csv"


def test_home_and_accents_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    decomposed = tmp_path / unicodedata.normalize("NFD", "Café")
    decomposed.mkdir()
    parse = OverridesParser.create().parse_override
    assert parse(literal("input=~/a b.wav")).value() == f"{tmp_path}/a b.wav"
    assert parse(literal(f"data.root={tmp_path}/Café")).value() == str(decomposed)
    assert parse(literal(f"run_dir={tmp_path}/Größe")).value() == f"{tmp_path}/Größe"  # not there yet


def test_positional_arguments_get_their_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.wav").touch()
    assert with_keys(["r", "a=b.wav"], ["run", "input"], "") == ["run=r", "input=a=b.wav"]
    assert literal("input=null") == "input='null'"
    keys = ["run", "input"]
    typed = ["runs/clip=none,seed=0", "a b.wav", "output=x"]
    assert with_keys(typed, keys, "") == ["run=runs/clip=none,seed=0", "input=a b.wav", "output=x"]
    assert with_keys(["output=x", "r", "f"], keys, "") == ["output=x", "run=r", "input=f"]
    for wrong in (["r", "f", "third"], ["--input", "x"], ["-i"]):
        with pytest.raises(InputError, match="expected key=value; usage: python separate.py run=R"):
            with_keys(wrong, keys, "python separate.py\n run=R")


def test_a_run_is_scored_whatever_its_folder_is_called(make_run, tmp_path):
    made = make_run()
    for name in ("clip=autoclip,seed=1", "läuft (2)"):
        (tmp_path / name).symlink_to(made)
        result = call_program("evaluate.py", f"run={tmp_path / name}", f"output={tmp_path}/out {name}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (tmp_path / f"out {name}" / "scores.csv").is_file()
    recording = next((made / "audio").rglob("mixture.wav"))
    (tmp_path / "a, (1).wav").symlink_to(recording)
    result = call_program("separate.py", tmp_path / "clip=autoclip,seed=1", tmp_path / "a, (1).wav", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "separated").iterdir()} == {f"a, (1)_source{n}.wav" for n in (1, 2)}
    result = call_program("separate.py", made, "a.wav", "b.wav", cwd=tmp_path)
    assert result.returncode == 1 and "usage: python separate.py run=RUN_DIR input=FILE_OR_FOLDER" in result.stderr
    result = call_program("evaluate.py", f"run={tmp_path}", cwd=tmp_path)
    assert result.returncode == 1
    assert "holds 2 runs; give one of them:\n  clip=autoclip,seed=1\n  läuft (2)" in result.stderr


@pytest.mark.slow
def test_a_recipe_takes_a_folder_with_spaces(tmp_path, speech_folder):
    root = tmp_path / "Müllers Stimmen, (alle)"
    root.symlink_to(speech_folder)
    overrides = [f"run_dir={tmp_path}/ein Lauf", f"data.store={tmp_path}/der Vorrat", *TINY]
    command = [ROOT / "recipes/folder/run.sh", root, "--stage", "2", *overrides]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd="/")
    assert result.returncode == 0, result.stderr + result.stdout
    assert (tmp_path / "ein Lauf/summary.json").is_file()
