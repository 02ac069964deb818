"""A sweep's bar, from the marks and tables that its runs leave."""

import io

import pytest
from omegaconf import OmegaConf

from separation.app import sweep_bar
from separation.app.sweep_bar import Mark, SweepBar, last_step, leave_mark, read_marks
from separation.app.sweeps import _num_runs
from separation.runs.run_folder import RunFolder


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [0.0]
    monkeypatch.setattr(sweep_bar.time, "monotonic", lambda: now[0])
    return now


def write_steps(folder, last):
    folder.mkdir(exist_ok=True)
    rows = [f"{step},0,0.1,0.2,0.3,1.0,0.05" for step in range(1, last + 1)]
    (folder / "steps.csv").write_text("\n".join(["step,epoch,train/loss", *rows, ""]))


def shown(bar, terminal):
    terminal.truncate(0)
    terminal.seek(0)
    bar.update(read_marks(bar._sweep))
    return terminal.getvalue()


def test_it_says_how_many_runs_have_ended_and_how_long_the_others_take(tmp_path, clock):
    terminal = io.StringIO()
    bar = SweepBar(tmp_path, 4, terminal)
    for number, seed in enumerate((0, 1)):
        write_steps(tmp_path / f"clip=none,seed={seed}", 20)  # both are resumed at 20 of 100
        leave_mark(tmp_path, number, Mark(f"clip=none,seed={seed}", False, 100))
    assert "0 of 4 runs |" in shown(bar, terminal)  # nothing to judge by yet
    clock[0] = 60
    write_steps(tmp_path / "clip=none,seed=0", 50)
    text = shown(bar, terminal)
    # .3 of a run in a minute; 3.3 are left
    assert "0 of 4 runs, 11 min left |" in text
    assert "50% seed=0" in text and "20% seed=1" in text
    clock[0] = 240
    leave_mark(tmp_path, 0, Mark("clip=none,seed=0", True, 100))
    write_steps(tmp_path / "clip=none,seed=1", 60)
    # 1.2 runs in 4 minutes; 2.4 are left
    text = shown(bar, terminal)
    assert "1 of 4 runs, 8 min left |" in text and "60% seed=1" in text


def test_a_run_that_has_just_begun_has_no_step(tmp_path):
    assert last_step(RunFolder(tmp_path)) == 0
    write_steps(tmp_path, 0)
    assert last_step(RunFolder(tmp_path)) == 0
    write_steps(tmp_path, 500)
    assert last_step(RunFolder(tmp_path)) == 500


@pytest.mark.parametrize(
    ("task", "sweeper", "count"),
    [
        (["clip.p=1,10,25", "seed=0,1", "data=demo"], {}, 6),
        (["seed=range(0,5)", "clip=choice(none,autoclip)"], {}, 10),
        (["clip.max_norm=interval(0,1)"], {"n_trials": 20}, 20),
        (["clip.max_norm=interval(0,1)"], {}, None),
        (["seed=1"], {"params": {"clip.p": "1,2"}}, None),
    ],
)
def test_the_number_of_runs_of_a_sweep(task, sweeper, count):
    assert _num_runs(OmegaConf.create({"hydra": {"overrides": {"task": task}, "sweeper": sweeper}})) == count
