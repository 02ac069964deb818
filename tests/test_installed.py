"""The package installed as wheels, not from the checkout: its programs work in any folder, its settings come along."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which both wheels are installed; built from copies, since a build writes into its source."""
    work = tmp_path_factory.mktemp("wheels")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "tests")
    for name in ("separation", "conf", "gradclip", "hydra_plugins"):
        shutil.copytree(ROOT / name, work / "source" / name, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    sources = [work / "source", work / "source/gradclip"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", work, *sources], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", work / "site", *work.glob("*.whl")], check=True)
    return work / "site"


@pytest.mark.slow
def test_an_installed_package_trains_evaluates_and_separates(site, speech_folder, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = run("-c", "import gradclip, separation, separation.app.settings as s; print(gradclip, separation, s.CONF)")
    assert where.count(str(site)) == 3 and str(ROOT) not in where.replace(str(site), "")
    run("-m", "separation.app.train", "data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY)
    before = (tmp_path / "run/scores.csv").read_bytes()
    assert "model's improvement" in run("-m", "separation.app.evaluate", "run=run", "output=again")
    assert (tmp_path / "again/scores.csv").read_bytes() == before
    run("-m", "separation.app.separate", "run=run", f"input={speech_folder}/anna/0.wav")
    assert len(list((tmp_path / "separated").glob("0_source*.wav"))) == 2
