"""A run that was interrupted goes on as if it had not been."""

import math
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, assert_same, rows, run_program
from omegaconf import OmegaConf

from separation.app.command import resuming
from separation.app.settings import compose_config
from separation.errors import InputError
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.training.attached_step import AttachedStep
from separation.training.counters import Progress
from separation.training.resume import capture, restore
from separation.training.step import on_host, train_step


def test_a_run_stopped_after_any_step_goes_on_bit_for_bit(fit, tmp_path):
    fit("whole")
    for stop in range(1, 8):
        assert fit(f"parts{stop}", stop=stop) is None
        state = checkpoint.load(tmp_path / f"parts{stop}/checkpoints/last.pt", torch.device("cpu"))
        assert state["progress"]["step"] == stop
        fit(f"parts{stop}", "trainer.resume=true")
        assert_same(tmp_path / "whole", tmp_path / f"parts{stop}")


@pytest.mark.parametrize("overrides", [["clip=zclip"], ["model=chimera"], ["trainer.precision=bf16"]])
def test_so_do_other_strategies_models_and_precisions(overrides, fit, tmp_path):
    fit("whole", *overrides)
    fit("parts", *overrides, stop=4)
    fit("parts", *overrides, "trainer.resume=true")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_can_be_prolonged(fit, tmp_path):
    fit("whole", "trainer.max_steps=11")
    fit("parts")
    fit("parts", "trainer.resume=true", "trainer.max_steps=11")
    steps = [row["step"] for row in rows(tmp_path / "parts/epochs.csv", "seconds")]
    assert steps == ["3", "6", "9", "11"]
    assert rows(tmp_path / "whole/steps.csv", "train/seconds") == rows(tmp_path / "parts/steps.csv", "train/seconds")


def test_rows_after_the_checkpoint_are_written_again(fit, tmp_path):
    fit("whole")
    fit("parts", stop=4)
    for name in ("steps.csv", "epochs.csv"):
        path = tmp_path / "parts" / name
        last = path.read_text().splitlines()[-1]
        path.write_text(path.read_text() + re.sub(r"\d+", "7", last, count=2) + "\n" + last[:5])  # later, and cut short
    (tmp_path / "parts/checkpoints/.last.pt.123.tmp").write_bytes(b"half")
    fit("parts", "trainer.resume=true")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert not list((tmp_path / "parts/checkpoints").glob(".*"))


def test_checkpoints_come_as_often_as_asked(fit, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpoint, "save", lambda path, state: saved.append((path.name, state["progress"]["step"])))
    fit("run", "trainer.checkpoint_steps=2", "trainer.checkpoint_minutes=null")
    assert [step for name, step in saved if name == "last.pt"] == [2, 3, 4, 6, 6, 8, 8]
    saved.clear()
    fit("other", "trainer.checkpoint_minutes=0.01")
    assert [step for name, step in saved if name == "last.pt"] == [3, 6, 8]
    monkeypatch.setattr(time, "monotonic", iter(range(0, 10**6, 2)).__next__)
    saved.clear()
    fit("third", "trainer.checkpoint_minutes=0.01")
    assert [step for name, step in saved if name == "last.pt"][:3] == [1, 2, 3]


def test_a_clock_that_is_set_back_changes_nothing(fit, tmp_path, monkeypatch):
    fit("whole")
    fit("parts", stop=3)
    monkeypatch.setattr(time, "time", iter(range(10**9, 0, -3600)).__next__)
    fit("parts", "trainer.resume=true", "trainer.checkpoint_minutes=0.01")
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_other_settings_are_refused(fit, tmp_path):
    fit("run", stop=2)
    before = (tmp_path / "run/config.yaml").read_bytes()
    with pytest.raises(InputError, match=r"clip.p=50 \(it was 10\), seed=1 \(it was 0\): not as in the run"):
        fit("run", "trainer.resume=true", "seed=1", "clip.p=50")
    with pytest.raises(InputError, match="holds a run already; trainer.resume=true goes on with it"):
        fit("run")
    assert (tmp_path / "run/config.yaml").read_bytes() == before


def test_a_missing_checkpoint_costs_nothing(fit, tmp_path):
    fit("run")
    (tmp_path / "run/checkpoints/last.pt").unlink()
    before = (tmp_path / "run/steps.csv").read_bytes()
    with pytest.raises(InputError, match="its checkpoints/last.pt is gone, so the run can't be resumed; copy best.pt"):
        fit("run", "trainer.resume=true")
    assert (tmp_path / "run/steps.csv").read_bytes() == before
    (tmp_path / "run/checkpoints/last.pt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="last.pt: is a link"):
        fit("run", "trainer.resume=true")


def test_other_recordings_are_refused(fit, speech_folder, tmp_path):
    fit("run", stop=2)
    shutil.copytree(speech_folder, tmp_path / "same")
    shutil.copytree(speech_folder, tmp_path / "fewer")
    (tmp_path / "fewer/anna/0.wav").unlink()
    with pytest.raises(InputError, match="data.root: its recordings are not those that"):
        fit("run", "trainer.resume=true", f"data.root={tmp_path}/fewer")
    assert fit("run", "trainer.resume=true", f"data.root={tmp_path}/same") is not None


def test_the_command_that_goes_on_survives_shell_and_hydra():
    typed = ["clip.p=5", "run_dir=x", "trainer.resume=false"]
    command = shlex.split(resuming(Path("runs/a=1,b's"), OmegaConf.create({"overrides": typed})))
    assert command[:3] == ["python", "train.py", "clip.p=5"]
    assert compose_config("config", command[2:]).run_dir == "runs/a=1,b's"


def test_a_checkpoint_that_does_not_fit_is_refused(fit, tmp_path):
    fit("run", stop=2)
    path = tmp_path / "run/checkpoints/last.pt"
    state = checkpoint.load(path, torch.device("cpu"))
    for name, value in {
        "clipper": {"p": 10},
        "progress": {"step": "2"},
        "optimizer": {"param_groups": []},
        "random": 3,
    }.items():
        checkpoint.save(path, {key: value if key == name else old for key, old in state.items()})
        with pytest.raises(InputError, match="last.pt: can't be resumed"):
            fit("run", "trainer.resume=true")


def test_two_runs_into_one_folder_are_refused(fit, tmp_path):
    fit("run", stop=2)
    config = compose_config("config", [f"run_dir={tmp_path}/run"])
    with (
        RunFolder.create(tmp_path / "other", config, False) as folder,
        pytest.raises(InputError, match="another process is training in it"),
        RunFolder.create(folder.path, config, True),
    ):
        pass


@pytest.mark.slow
def test_a_sweep_passes_a_signal_on_to_its_runs(speech_folder, tmp_path):
    arguments = ["--multirun", "hydra/launcher=joblib", "data=folder", f"data.root={speech_folder}", *TINY]
    arguments += ["trainer.max_steps=1000000", "run_dir=sweep", "clip=none,autoclip"]
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        logs: list[Path] = []
        while process.poll() is None and not (len(logs) == 2 and all("epoch 2" in log.read_text() for log in logs)):
            logs = list(tmp_path.glob("sweep/*/train.log"))
            time.sleep(0.05)
        process.terminate()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    for log in logs:
        state = checkpoint.load(log.parent / "checkpoints/last.pt", torch.device("cpu"))
        assert state["progress"]["step"] == len(rows(log.parent / "steps.csv", ""))


@pytest.mark.slow
def test_submitit_launches_sweeps(speech_folder, tmp_path):
    arguments = ["--multirun", "hydra/launcher=submitit_local", "data=folder", f"data.root={speech_folder}", *TINY]
    result = run_program("train.py", *arguments, "run_dir=sweep", "clip=none,autoclip", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("sweep/*/summary.json"))) == 2 and result.stdout.count("done") == 2


def test_a_terminal_that_goes_away_ends_a_run_in_order(speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "trainer.max_steps=1000000"]
    process, terminal = pty.fork()  # the child leads the terminal's session
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, str(ROOT / "train.py"), *arguments])
    log = tmp_path / "run/train.log"
    while not (log.is_file() and "epoch 2" in log.read_text()):
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 2**16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    state = checkpoint.load(tmp_path / "run/checkpoints/last.pt", torch.device("cpu"))
    assert state["progress"]["step"] == len(rows(tmp_path / "run/steps.csv", ""))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_signals_end_a_run_in_order(number, status, speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "trainer.max_steps=1000000"]
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        log = tmp_path / "run/train.log"
        while process.poll() is None and not (log.is_file() and "epoch 2" in log.read_text()):
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    [line] = [line for line in error.splitlines() if "go on with" in line]
    found = re.fullmatch(rf"stopped by {number.name} at step (\d+) of 1000000; go on with: (python train.py .*)", line)
    step = int(found[1])
    assert len(rows(tmp_path / "run/steps.csv", "")) == step
    command = found[2].split()[2:]
    result = run_program("train.py", *command, f"trainer.max_steps={step + 1}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [row["step"] for row in rows(tmp_path / "run/steps.csv", "")] == [str(n) for n in range(1, step + 2)]
    again = run_program("train.py", *command, f"trainer.max_steps={step + 1}", cwd=tmp_path)
    assert again.returncode == 0 and "model's improvement" in again.stdout  # finished: shows the scores, trains nothing


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ((), "overflow bad"),
        (("clip=autoclip_on_device",), "bad"),
        (("clip=autoclip_on_device",), "bad good bad"),
        (("optimizer._target_=torch.optim.Adagrad", "~optimizer.fused"), ""),
        (("optimizer._target_=torch.optim.Adagrad", "~optimizer.fused"), "good"),
        (("optimizer._target_=torch.optim.Adafactor", "~optimizer.fused"), "good"),
        (("optimizer=sgd", "optimizer.lr=0.1", "optimizer.momentum=0.9"), "bad good"),
    ],
)
def test_every_state_that_a_run_can_come_to_is_restored(overrides, steps, make_parts, tmp_path):
    """Steps that were left out, after which an optimizer remembers nothing yet, or all. An overflow is no fault."""
    parts, progress = make_parts(*overrides), Progress()
    take = AttachedStep(parts) if parts.clipper.on_device else partial(train_step, parts)
    batch = parts.data.train.excerpts(range(2), 4000)
    for step in steps.split():
        loss, clip = take(batch if step == "good" else batch._replace(sources=batch.sources * math.nan))
        progress.count(float(loss), *on_host([clip]), [] if step == "overflow" else list(batch.names))
    checkpoint.save(tmp_path / "last.pt", capture(parts, progress))
    restored = make_parts(*overrides)
    assert restore(restored, tmp_path / "last.pt") == progress
    states = [each.optimizer.state_dict()["state"] for each in (parts, restored)]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_sparse_network_is_refused_in_a_sentence(make_parts, tmp_path):
    network = make_parts().network
    sparse = {name: tensor.to_sparse() for name, tensor in network.state_dict().items()}
    checkpoint.save(tmp_path / "best.pt", {"network": sparse})
    with pytest.raises(InputError, match="its parameters don't fit the network"):
        checkpoint.load_network(tmp_path / "best.pt", network, torch.device("cpu"))
