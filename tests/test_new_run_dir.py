"""Names of run folders: of the clock, and of a sweep's overrides."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import TINY, call_program
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from separation.app.command import folder_name
from separation.app.new_run_dir import NewRunDir
from separation.app.settings import CONF
from separation.runs.run_folder import make_new


@pytest.mark.parametrize("character", ["a", "ä", "漢", "🎻"])
def test_a_sweeps_folder_has_at_most_200_bytes(character, tmp_path):
    names = {folder_name(f"data.root={character * count}") for count in (170, 171, 172, 300)}
    assert len(names) == 4
    for name in names:
        assert len(name.encode()) <= 200
        (tmp_path / name).mkdir()
    whole = f"data.root={character * (170 // len(character.encode()))}"
    assert folder_name(whole) == whole
    for quoted in ("data.root='/data/Müller, (x)',seed=0", "data.root=/data/Müller, (x),seed=0"):
        assert re.fullmatch(r"data.root=Müller, \(x\),seed=0-[0-9a-f]{8}", folder_name(quoted))


def test_of_those_who_make_a_folder_at_the_same_moment_each_gets_one(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(make_new, [tmp_path / "day" / "12-00-00"] * 16))
    names = ["12-00-00", *(f"12-00-00-{number}" for number in range(2, 17))]
    assert sorted(folder.name for folder in made) == sorted(names)
    assert all(folder.is_dir() for folder in made)


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


def test_a_folder_that_the_clock_names_is_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clock = "run_dir=runs/${now:noon}"
    chosen = []
    for _ in range(2):
        config = settings(clock)
        NewRunDir().on_run_start(config)
        assert Path(config.hydra.run.dir).is_dir()
        chosen.append(config.run_dir)
    config = settings(clock)
    NewRunDir().on_multirun_start(config)
    assert [*chosen, config.hydra.sweep.dir] == ["runs/noon", "runs/noon-2", "runs/noon-3"]
    assert config.hydra.overrides.task[-1] == "run_dir=runs/noon-3"  # for each of its runs
    monkeypatch.setenv("RANK", "1")
    config = settings(clock)
    NewRunDir().on_run_start(config)
    assert config.run_dir == "runs/noon"


@pytest.mark.parametrize("overrides", [["run_dir=mine"], ["hydra.run.dir=mine", "hydra.sweep.dir=mine"]])
def test_a_folder_that_the_user_names_stays(overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    config = settings(*overrides)
    NewRunDir().on_run_start(config)
    NewRunDir().on_multirun_start(config)
    assert (config.hydra.run.dir, config.hydra.sweep.dir) == ("mine", "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_hydra_asks_for_it(speech_folder, tmp_path):
    (tmp_path / "runs/noon").mkdir(parents=True)
    arguments = ["data=folder", f"data.root={speech_folder}", *TINY, "run_dir=runs/${now:noon}", "clip.p=101"]
    call_program("train.py", "--multirun", *arguments, cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["noon", "noon-2"]
    assert "clip.p: expected a percentile" in (tmp_path / "runs/noon-2/errors.txt").read_text()
