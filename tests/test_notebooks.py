"""The notebooks run from start to end on runs that were made just now, and their committed outputs are there."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def small_runs(make_run, tmp_path) -> Path:
    """A folder with two runs, without clipping and with AutoClip."""
    settings = ["trainer.max_steps=6", "trainer.dynamics_steps=1", "evaluation.num_audio=1"]
    for p in (100, 10):
        shutil.copytree(make_run(*settings, f"clip.p={p}"), tmp_path / f"p{p}")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_start_to_end(path: Path, small_runs, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    for name in ("RUNS", "SCALE_RUNS", "CONDITION_RUNS"):
        monkeypatch.setenv(name, str(small_runs))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
