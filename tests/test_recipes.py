"""The recipes run as committed, at toy size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, TINY, voice

SMALL_DEMO = ["data.voices=2", "data.unknown_voices=2", "data.sentences=8"]


def run_recipe(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [str(ROOT / "recipes" / name / "run.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd="/")


@pytest.mark.slow
def test_demo(tmp_path):
    arguments = [f"run_dir={tmp_path}/runs", f"data.store={tmp_path}/cache", *SMALL_DEMO, *TINY]
    result = run_recipe("demo", *arguments)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    summaries = list((tmp_path / "runs").glob("*/summary.json"))
    assert len(summaries) == 2
    for summary in map(json.loads, (path.read_text() for path in summaries)):
        assert set(summary["splits"]) == {"test", "test_unknown"}
    # One of the two runs built the store; the other waited for it.
    assert len(list((tmp_path / "cache").glob("demo-*/samples.i16"))) == 1
    table = result.stdout[result.stdout.rindex("SI-SDR improvement [dB]") :]
    assert "clip=autoclip" in table
    assert "clip=none" in table


@pytest.mark.slow
def test_fsdd(tmp_path):
    (tmp_path / "fsdd/recordings").mkdir(parents=True)
    for number, speaker in enumerate(["george", "jackson"]):
        for index in range(12):
            samples = voice(110 + 100 * number, 0.5, 8000, seed=index)
            soundfile.write(tmp_path / f"fsdd/recordings/{index % 10}_{speaker}_{index}.wav", samples, 8000)
    result = run_recipe("fsdd", f"{tmp_path}/fsdd", f"run_dir={tmp_path}/run", f"data.store={tmp_path}/cache", *TINY)
    assert result.returncode == 0, result.stderr
    assert np.isfinite(json.loads((tmp_path / "run/summary.json").read_text())["si_sdr"])
    assert run_recipe("fsdd").stderr.startswith("usage:")


def test_recipes_are_one_complete_command():
    for path in (ROOT / "recipes").glob("*/run.sh"):
        assert os.access(path, os.X_OK), path
        assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
        assert path.read_text().rstrip().endswith('"$@"'), path
