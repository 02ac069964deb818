"""The notebooks run from start to end on runs that were made just now, and their committed outputs are there."""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAME = "<i>p10"
"""Of a run's folder: a page has to show it as text."""
OF_RUNS = [path for path in NOTEBOOKS if path.stem != "attach_autoclip"]


@pytest.fixture
def small_runs(make_run, tmp_path) -> Path:
    """A folder with two runs, without clipping and with AutoClip."""
    settings = ["trainer.max_steps=6", "trainer.dynamics_steps=1", "evaluation.num_audio=1"]
    for name, clip in {NAME: "clip.p=10", "none": "clip=none"}.items():
        shutil.copytree(make_run(*settings, clip), tmp_path / name)
    return tmp_path


def read_cells(path: Path) -> list:
    nbformat = pytest.importorskip("nbformat")
    return cells_of(nbformat.read(path, as_version=4))


def cells_of(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed(path):
    cells = read_cells(path)
    assert all(cell.execution_count for cell in cells)
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert any("image/png" in each for each in data) and any("text/html" in each for each in data)
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert path.stat().st_size < 2**21


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_start_to_end(path, small_runs, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("RUNS", str(small_runs))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    pages = [output.get("data", {}).get("text/html", "") for cell in cells_of(notebook) for output in cell.outputs]
    assert not any("<i>" in page for page in pages)


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_RUNS, ids=lambda path: path.stem)
def test_a_single_run_will_do(path, small_runs, monkeypatch):
    pytest.importorskip("IPython")
    monkeypatch.setenv("RUNS", str(small_runs / NAME))
    monkeypatch.chdir(path.parent)
    namespace: dict = {}
    for cell in read_cells(path):
        exec(cell.source.replace("%matplotlib inline", ""), namespace)
    assert plt.get_fignums()
    plt.close("all")
