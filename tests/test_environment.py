"""Full disks, folders that are read-only or go away, and files that lie."""

import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from conftest import ROOT, STUDIES, TINY, call_program

from separation.app.assembly import build
from separation.app.settings import run_config
from separation.data import audio, decoding
from separation.errors import InputError
from separation.runs import atomic_files, checkpoint
from separation.runs.run_folder import RunFolder
from separation.training.recorder import STEP_COLUMNS, MetricsLog

CPU = torch.device("cpu")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(small_disk):
    path = small_disk / "last.pt"
    checkpoint.save(path, {"network": {"x": torch.arange(1000)}})
    with pytest.raises(InputError, match=r"last.pt: can't be written \(.*MB are free on its disk\).*before is whole"):
        checkpoint.save(path, {"network": {"x": torch.zeros(10**6)}})
    assert torch.equal(checkpoint.load(path, CPU)["network"]["x"], torch.arange(1000))
    assert [file.name for file in small_disk.iterdir()] == ["last.pt"]


def test_a_full_disk_is_named_by_whatever_is_written(small_disk):
    (small_disk / "filler").write_bytes(bytes(2**20 - 16384))
    log = MetricsLog(small_disk / "steps.csv", STEP_COLUMNS, 0)

    def fill() -> None:
        for step in range(10_000):
            log.write(dict.fromkeys(STEP_COLUMNS, step))

    with pytest.raises(InputError, match=r"steps.csv: can't be written \(No space left on device; 0.0 MB are free"):
        fill()
    log.close()


def test_a_full_disk_ends_training_with_a_sentence_and_it_can_be_resumed(small_disk, speech_folder, tmp_path):
    arguments = [
        "data=folder",
        f"data.root={speech_folder}",
        f"data.store={tmp_path}/cache",
        f"run_dir={small_disk}/run",
    ]
    arguments += [*TINY, "trainer.checkpoint_steps=1", "evaluation.num_audio=0", "logger=csv"]
    (small_disk / "other").write_bytes(bytes(300_000))  # what is left fills sooner
    result = call_program("train.py", *arguments, "trainer.max_steps=100000", cwd=tmp_path)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "can't be written" in result.stderr and "MB are free on its disk" in result.stderr
    step = checkpoint.load(small_disk / "run/checkpoints/last.pt", CPU)["progress"]["step"]
    assert step > 10
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    result = call_program("train.py", *arguments, f"trainer.max_steps={step + 2}", "trainer.resume=true", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_folder_removed_while_training_is_named(speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "trainer.max_steps=1000000"]
    with subprocess.Popen(
        [sys.executable, ROOT / "train.py", *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        log = tmp_path / "run/train.log"
        while process.poll() is None and not (log.is_file() and "epoch 1" in log.read_text()):
            time.sleep(0.05)
        (tmp_path / "run").rename(tmp_path / "gone")
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1 and "its folder is gone; was the run folder removed" in error, error


def test_a_read_only_folder_is_named(small_disk, speech_folder, tmp_path):
    (small_disk / "old").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    arguments = ["data=folder", f"data.root={speech_folder}", *TINY]
    for place in ("run_dir=new", "run_dir=old", "data.store=new"):
        key, name = place.split("=")
        store = f"{tmp_path}/{name}" if key == "run_dir" else f"{small_disk}/new"
        result = call_program("train.py", *arguments, f"data.store={store}", f"{key}={small_disk}/{name}", cwd=tmp_path)
        assert result.returncode == 1 and "Traceback" not in result.stderr
        assert f"{small_disk}" in result.stderr and "Read-only file system" in result.stderr
        assert "make room" not in result.stderr
        assert not Path(store).exists()  # it is said before the work


def test_a_write_that_fails_leaves_no_temporary_file(tmp_path):
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with atomic_files.replacing(tmp_path / "a") as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("program", ["evaluate.py", "train.py"])
def test_a_malicious_pickle_is_refused(program, make_run, speech_folder, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    for name in ("best.pt", "last.pt"):
        torch.save({"format": 1, "network": Evil()}, run / "checkpoints" / name)
    arguments = [f"run={run}"]
    if program == "train.py":
        common = ["data=folder", f"data.root={speech_folder}", *TINY, "trainer.max_steps=5"]
        arguments = [f"run_dir={run}", "trainer.resume=true", *common]
    result = call_program(program, *arguments, cwd=tmp_path)
    assert (
        result.returncode == 1
        and "contains pickled objects, which a checkpoint never does; refusing to load it" in result.stderr
    )
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="plain.pt: is damaged"):
        checkpoint.load(plain, CPU)
    assert not list(tmp_path.rglob("evil"))


def test_a_compressed_checkpoint_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"format": 1, "network": {"x": torch.zeros(10**6)}}, buffer)
    with (
        zipfile.ZipFile(buffer) as stored,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in stored.infolist():
            bomb.writestr(entry.filename, stored.read(entry))
    with pytest.raises(InputError, match="bomb.pt: is damaged"):
        checkpoint.load(tmp_path / "bomb.pt", CPU)


FOREIGN = {
    "os.system": (("clip", "_target_"), "os.system", "clip._target_=os.system: expected a choice of gradclip."),
    "nested": (("model", "loss", "x"), {"_target_": "os.system"}, "model.loss"),
    "interpolation": (("data", "store"), "${oc.env:HOME}", "holds references"),
    "defaults": (("defaults",), [{"data": "demo"}], "holds no settings of a run (defaults)"),
    "hydra": (("hydra",), {"searchpath": ["pkg://os"]}, "holds no settings of a run (hydra)"),
    "missing": (("clip",), None, "holds no settings of a run (no clip)"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_strangers_settings_build_nothing_else(case, make_run, tmp_path):
    keys, value, words = FOREIGN[case]
    run = shutil.copytree(make_run(), tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))

    def use() -> None:
        settings = run_config(RunFolder.open(run), [])
        for key in ("clip", "model.loss"):
            build(settings, key)

    with pytest.raises(InputError, match=re.escape(words)):
        use()


def test_links_lead_nowhere(make_run, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    shutil.rmtree(run / "audio")
    (tmp_path / "victim").mkdir()
    (run / "audio").symlink_to(tmp_path / "victim")
    result = call_program("evaluate.py", f"run={run}", cwd=make_run().parent)
    assert result.returncode == 1 and "audio: is a link; a run writes into its own folder only" in result.stderr
    assert not list((tmp_path / "victim").iterdir())


def test_tables_of_hostile_runs(make_run, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("clip:", "clip: &a\n  x: *a\nb:", 1))
    result = call_program(*STUDIES, "collect", run, tmp_path / "out.csv", cwd=tmp_path)
    assert result.returncode == 1 and "holds references" in result.stderr
    shutil.copy(make_run() / "config.yaml", run)
    (run / "epochs.csv").write_text("epoch,step\n")
    result = call_program(*STUDIES, "collect", run, tmp_path / "out.csv", cwd=tmp_path)
    assert result.returncode == 1 and "its files are damaged" in result.stderr
    (run / "summary.json").unlink()
    os.mkfifo(run / "summary.json")
    result = call_program(*STUDIES, "collect", run, tmp_path / "out.csv", cwd=tmp_path)
    assert result.returncode == 0 and "1 unfinished" in result.stdout


def test_yaml_that_unfolds_is_refused(make_run, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    )
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + bomb)
    with pytest.raises(InputError, match="holds references"):
        RunFolder.open(run).load_config()
    (run / "config.yaml").write_text("x" * 2_000_000)
    with pytest.raises(InputError, match="is larger than"):
        RunFolder.open(run).load_config()


def test_a_strangers_run_writes_its_samples_only_where_the_user_says(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    run = shutil.copytree(make_run(), tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("store: null", f"store: {tmp_path}/elsewhere"))
    result = call_program("evaluate.py", f"run={run}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "elsewhere").exists() and list((tmp_path / "home/separation/stores").glob("folder-*"))


def wav(rate: int, claimed: int, samples: bytes) -> bytes:
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", claimed, b"WAVE") + chunk + struct.pack("<4sI", b"data", claimed)
    return head + samples


def test_headers_that_lie_cost_no_memory(tmp_path, monkeypatch):
    voice = (1000 * np.sin(np.arange(8000))).astype("<i2").tobytes()
    (tmp_path / "long.wav").write_bytes(wav(8000, 2**32 - 1, voice))
    assert audio.read(tmp_path / "long.wav")[0].shape == (8000, 1)
    soundfile.write(tmp_path / "a.flac", np.sin(np.arange(8000)), 8000)
    flac = bytearray((tmp_path / "a.flac").read_bytes())
    flac[21] |= 0x0F  # STREAMINFO's 36 bits of total samples
    flac[22:26] = b"\xff" * 4
    (tmp_path / "b.flac").write_bytes(flac)
    with pytest.raises(InputError, match="b.flac: can't be read as audio"):
        audio.read(tmp_path / "b.flac")
    for rate in (1, 2**31 - 1):
        (tmp_path / "rate.wav").write_bytes(wav(rate, len(voice), voice))
        with pytest.raises(InputError, match=f"rate.wav: says its rate is {rate} Hz"):
            audio.read(tmp_path / "rate.wav")
    monkeypatch.setattr(decoding, "LARGEST_SIZE", 7999)
    with pytest.raises(InputError, match="long.wav: is longer than 7999 samples"):
        audio.read(tmp_path / "long.wav")
