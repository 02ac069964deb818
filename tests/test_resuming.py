"""`resume=RUN_DIR` alone goes on with a run; what is typed beside it."""

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import CPU, ROOT, TINY, StopAt, assert_same, rows

import separation
from gradclip import AutoClip
from separation.runs import checkpoint
from separation.training.interruption import Interrupted

SETTINGS = [*TINY, "model.dropout=0.3", "model.num_layers=2", "data.num_train=6", "trainer.max_steps=8"]
"""Three steps an epoch, so that the run ends within one."""


@pytest.fixture
def train(speech_folder, tmp_path, monkeypatch) -> Callable[..., Path | None]:
    """Trains into a folder below the working directory, or goes on with it; None where it was interrupted."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str, stop: int | None = None) -> Path | None:
        quiet = [
            "trainer.progress=false",
            "evaluation.progress=false",
            "evaluation.num_audio=0",
            "evaluation.metrics=torch",
        ]
        common = ["data=folder", f"data.root={speech_folder}", "data.store=cache", *SETTINGS, *quiet]
        resumes = any(text.startswith("resume=") for text in overrides)
        settings = overrides if resumes else [*common, *overrides]
        if stop is None:
            return separation.train(settings).path
        with monkeypatch.context() as patch:
            patch.setattr("separation.app.train.Interruption", lambda: StopAt(stop - 1))
            with pytest.raises(Interrupted) as interrupted:
                separation.train(settings)
        place = next(text.partition("=")[2] for text in overrides if text.startswith(("run_dir=", "resume=")))
        assert str(interrupted.value).endswith(f"go on with: python train.py resume={place}")
        return None

    return run


def network(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(run / "checkpoints/last.pt", CPU)["network"]


def test_it_goes_on_bit_for_bit(train, tmp_path):
    train("run_dir=whole")
    assert train("run_dir=parts", stop=2) is None
    shutil.copytree("parts", "moved")
    assert train("resume=parts", stop=3) is None
    train("resume=parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    shutil.rmtree("parts")
    train("resume=moved")
    assert_same(tmp_path / "whole", tmp_path / "moved")
    assert yaml.safe_load(Path("moved/config.yaml").read_text())["run_dir"] == "moved" and not Path("parts").exists()
    assert Path("moved/scores.csv").read_bytes() == Path("whole/scores.csv").read_bytes()


def test_a_run_that_has_ended_says_so_and_can_be_prolonged(train, caplog, tmp_path):
    train("run_dir=whole", "trainer.max_steps=11")
    train("run_dir=parts")
    before = Path("parts/steps.csv").read_bytes()
    with caplog.at_level(logging.INFO):
        train("resume=parts")
    assert "the run has ended; a larger trainer.max_steps (or trainer.patience) goes on with it" in caplog.text
    assert "model's improvement" in caplog.text and Path("parts/steps.csv").read_bytes() == before
    assert train("resume=parts", "trainer.max_steps=11", stop=1) is None
    train("resume=parts")  # the eleven steps are saved
    assert rows(tmp_path / "whole/steps.csv", "train/seconds") == rows(tmp_path / "parts/steps.csv", "train/seconds")


def test_a_learning_rate_holds_from_exactly_the_next_step_on(train, caplog):
    """Plain gradient descent: the step's size goes with the rate, from the same gradient."""
    sgd = ["optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0", "clip=none"]
    train("run_dir=one", *sgd, stop=4)
    shutil.copytree("one", "other")
    before = network(Path("one"))
    train("resume=one", stop=1)
    with caplog.at_level(logging.INFO):
        train("resume=other", "optimizer.lr=1.5", stop=1)
    assert "optimizer.lr=1.5 (it was 0.5) from step 5 on" in caplog.text
    assert Path("other/changes.txt").read_text() == "optimizer.lr=1.5 (it was 0.5) from step 5 on\n"
    steps = [rows(Path(name) / "steps.csv", "train/seconds") for name in ("one", "other")]
    assert steps[0] == steps[1] and len(steps[0]) == 5
    one, other = network(Path("one")), network(Path("other"))
    moved = [name for name in before if before[name].is_floating_point() and "running" not in name]
    assert len(moved) > 10
    for name in moved:
        small, large = (after[name].double() - before[name].double() for after in (one, other))
        assert small.abs().max() > 0
        torch.testing.assert_close(large, 3 * small, rtol=1e-3, atol=3e-7)  # rounding of the parameters
    shutil.copytree("other", "again")
    summary = separation.train(["resume=other"]).summary  # the rate is saved
    assert summary["provenance"]["command"].endswith(", then optimizer.lr=1.5 (it was 0.5) from step 5 on")
    assert yaml.safe_load(Path("other/config.yaml").read_text())["optimizer"]["lr"] == 1.5
    train("resume=again", "optimizer.lr=1.5")  # the same again changes nothing
    assert_same(Path("other").absolute(), Path("again").absolute())
    assert Path("again/changes.txt").read_text() == Path("other/changes.txt").read_text()


def test_a_schedule_goes_on_from_another_learning_rate(train):
    train("run_dir=run", "scheduler=cosine", "optimizer.lr=0.002", "data.num_train=2", stop=5)
    train("resume=run", "optimizer.lr=0.02")
    rates = [float(row["train/learning_rate"]) for row in rows(Path("run/epochs.csv"), "")]
    whole = [(0.002 if step < 5 else 0.02) * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(1, 9)]
    assert rates == pytest.approx(whole, rel=1e-12)  # of the rate after each step


def test_a_plateau_goes_on_after_it_has_lowered_the_rate(train):
    plateau = ["scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.5", "data.num_train=2"]
    train("run_dir=whole", *plateau)
    rates = [float(row["train/learning_rate"]) for row in rows(Path("whole/epochs.csv"), "")]
    lowered = next(step for step, rate in enumerate(rates, start=1) if rate < 0.5)
    train("run_dir=parts", *plateau, stop=lowered)
    train("resume=parts")
    assert_same(Path("whole").absolute(), Path("parts").absolute())


def test_a_change_that_was_cut_short_is_finished_by_the_same_command(train, monkeypatch):
    train("run_dir=run", stop=2)
    shutil.copytree("run", "whole")
    train("resume=whole", "optimizer.lr=0.01")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("separation.runs.run_folder.RunFolder.save_config", killed)
        with pytest.raises(KeyboardInterrupt):
            train("resume=run", "optimizer.lr=0.01")
    train("resume=run", "optimizer.lr=0.01")
    assert_same(Path("whole").absolute(), Path("run").absolute())


def test_what_would_change_other_steps_is_refused_and_costs_nothing(train):
    train("run_dir=run", stop=2)
    files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.suffix in (".pt", ".csv", ".yaml")}
    for overrides, message in {
        "clip.p=50 seed=1": r"clip.p=50 \(it was 10\), seed=1 \(it was 0\): not as in the run",
        "trainer.batch_size=3": r"trainer.batch_size=3 \(it was 2\)",
        "optimizer.fused=false": r"optimizer.fused=False \(it was True\)",
        "init_from=run": r"init_from=.*run \(it was None\)",
        "clip=none": "clip=none: beside resume=, give single settings, as in trainer.max_steps=N",
        "run_dir=other": "run_dir=other: resume=run says that already; leave it out",
        "trainer.resume=false": "trainer.resume=false: resume=run says that already",
        "clip.q=5": "clip.q: there is no such setting; clip has p, ",
        "optimizer.lr=-1": "optimizer: Invalid learning rate: -1",
        "optimizer.lr=1 trainer.max_steps=2": "optimizer.lr=1: the run has ended at step 2; give a larger",
        "evaluation.metrics=x": "metrics=x: expected one of",
    }.items():
        with pytest.raises(separation.InputError, match=message):
            train("resume=run", *overrides.split())
    assert {path: path.read_bytes() for path in files} == files


def test_what_holds_no_run_is_refused_in_a_sentence(train):
    train("run_dir=sweep/run", stop=2)
    for value, message in {
        "missing": "resume=missing: is no run folder",
        "sweep": "resume=sweep: holds 1 runs; give one of them:\n  run",
        "sweep/run/config.yaml": "is no run folder",
    }.items():
        with pytest.raises(separation.InputError, match=message):
            train(f"resume={value}")
    Path("sweep/run/checkpoints/last.pt").write_bytes(b"half")
    with pytest.raises(separation.InputError, match="last.pt: is damaged or cut short"):
        train("resume=sweep/run", "optimizer.lr=1")


def test_a_run_that_has_saved_nothing_yet_begins(train, tmp_path):
    train("run_dir=whole")
    train("run_dir=parts", stop=2)
    Path("parts/checkpoints/last.pt").unlink()
    train("resume=parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_strangers_folder_writes_nothing_elsewhere_and_builds_nothing_else(train, monkeypatch):
    train("run_dir=run", stop=2)
    path = Path("run/config.yaml")
    settings = yaml.safe_load(path.read_text())
    settings["run_dir"], settings["data"]["store"] = "victim", "victim/store"
    path.write_text(yaml.safe_dump(settings))
    train("resume=run")
    assert not Path("victim").exists()
    assert yaml.safe_load(path.read_text())["data"]["store"] is None
    mlflow = {"_target_": "separation.training.trackers.mlflow.MLflow", "experiment": "x", "tracking_uri": "http://x"}
    for key, value, message in (
        ("logger", mlflow, "logger.tracking_uri=http://x: would send this run; type it beside resume= to have it sent"),
        ("clip", {"_target_": "os.system", "command": "touch victim"}, "clip._target_=os.system: expected a choice"),
        ("allow", ["os"], "holds no settings of a run"),
        ("hydra", {"run": {"dir": "victim"}}, "holds no settings of a run"),
        ("seed", "${oc.env:HOME}", "holds references"),
    ):
        path.write_text(yaml.safe_dump(settings | {key: value}))
        with pytest.raises(separation.InputError, match=message):
            train("resume=run")
    assert not Path("victim").exists()


def test_a_folder_of_version_0_1_goes_on(make_run, train, speech_folder, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "old")
    settings = yaml.safe_load((ROOT / "tests/earlier_versions/config_0.1.yaml").read_text(encoding="utf-8"))
    settings["data"]["root"], settings["run_dir"] = str(speech_folder), str(run)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    train("resume=old", "trainer.max_steps=5", "optimizer.lr=0.001")
    assert len((run / "steps.csv").read_text().splitlines()) == 6


def test_initial_weights_are_loaded_once(train, tmp_path):
    train("run_dir=base", "seed=5")
    train("run_dir=whole", "init_from=base")
    best = checkpoint.load(tmp_path / "base/checkpoints/best.pt", CPU)["network"]
    config = yaml.safe_load(Path("whole/config.yaml").read_text())
    assert config["init_from"] == str(tmp_path / "base") and "resume" not in config
    assert yaml.safe_load(Path("whole/initial.json").read_text())["loaded"] == list(best)
    train("run_dir=none", "init_from=base", "optimizer.lr=1e-30")
    loaded = network(Path("none"))
    assert all(torch.equal(loaded[name], best[name]) for name in best if "running" not in name and "num_" not in name)
    train("run_dir=parts", "init_from=base", stop=2)
    shutil.rmtree("base")
    train("resume=parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    clipper = AutoClip(p=10)  # whose history is this run's own
    clipper.load_state_dict(checkpoint.load(tmp_path / "whole/checkpoints/last.pt", CPU)["clipper"])
    norms = [float(row["train/grad_norm"]) for row in rows(Path("whole/steps.csv"), "")]
    assert sorted(clipper.history) == pytest.approx(sorted(norms), rel=1e-12) and len(norms) == 8
