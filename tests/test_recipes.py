"""The recipes run as committed, at toy size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import ROOT, TINY

from separation.app.settings import compose_config, split_overrides

TINY_TREES = {"fsdd": ["data.utterance_seconds=1"]}
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
@pytest.mark.parametrize(("name", "first"), [("fsdd", 2), ("wsj0_2mix", 3)])
def test_a_corpus_from_check_to_evaluation(name, first, tmp_path):
    [_, root] = trees.FORMATS[name](tmp_path / "corpus")[:2]
    overrides = [f"run_dir={tmp_path}/run", f"data.store={tmp_path}/cache", *TINY, *TINY_TREES.get(name, [])]
    result = run_recipe(name, root.removeprefix("data.root="), "--stage", str(first), *overrides)
    assert result.returncode == 0, result.stderr + result.stdout
    assert [line.split(":")[0] for line in result.stdout.splitlines() if line.startswith("stage")] == STAGES[
        first - 1 :
    ]
    assert np.isfinite(json.loads((tmp_path / "run/summary.json").read_text())["si_sdr"])
    assert "bss_eval_sdr" in json.loads((tmp_path / "run/bss_eval/summary.json").read_text())
    assert (tmp_path / "run/check/report.txt").is_file() == (first == 2)


STAGES = ["stage 1", "stage 2", "stage 3", "stage 4"]
CORPORA = {
    "fsdd": "fsdd",
    "librispeech": "librispeech",
    "libri2mix": "libri2mix",
    "wsj0_2mix": "wsj0_2mix",
    "wham": "wham",
    "vctk": "vctk",
    "musdb18": "musdb18hq",
    "folder": "folder",
}
"""Of each recipe, the corpus."""


@pytest.mark.parametrize("name", CORPORA)
def test_every_recipe_calls_programs_with_settings_that_exist(name, tmp_path):
    (tmp_path / "python").write_text(
        '#!/bin/sh\nfor argument; do printf "%s\\n" "$argument"; done >> "$LOG"; echo >> "$LOG"\n'
    )
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    command = [str(ROOT / "recipes" / name / "run.sh"), str(tmp_path / "my data"), "data.num_test=7", "clip.p=25"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    calls = [call.split("\n") for call in (tmp_path / "log").read_text().split("\n\n")[:-1]]
    *downloads, check, train, evaluate = calls
    assert all(call[0] == "scripts/download.py" for call in downloads) and bool(downloads) == (name != "folder")
    assert (check[0], train[0], evaluate[0]) == ("scripts/check_data.py", "train.py", "evaluate.py")
    _, overrides = split_overrides(check[1:], "check_data")
    assert compose_config("config", overrides).data.num_test == 7
    config = compose_config("config", train[1:])
    assert f"data={CORPORA[name]}" in train and str(config.data.root).startswith(str(tmp_path / "my data"))
    assert (config.data.num_test, config.clip.p, config.trainer.resume) == (7, 25, True)
    own, rest = split_overrides(evaluate[1:], "evaluate")
    assert own.run == config.run_dir == f"runs/{name}" and not rest
    later = subprocess.run([*command, "--stage", "4"], capture_output=True, text=True, env=environment)
    assert later.stdout.splitlines() == [f"stage 4: python {' '.join(evaluate)}"]


@pytest.mark.parametrize("arguments", [[], ["x", "--stage"], ["x", "y"], ["x", "--help"], ["x", "--stage", "x"]])
def test_recipes_say_how_to_call_them(arguments):
    result = run_recipe("vctk", *arguments)
    assert result.returncode == 2
    assert "CORPUS_FOLDER [--stage N] [key=value ...]\nVCTK 0.92: 100 speakers" in result.stderr


def test_recipes_can_be_run():
    for path in (ROOT / "recipes").rglob("*.sh"):
        assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
        if path.parent.name != "recipes":  # others are sourced
            assert os.access(path, os.X_OK), path


@pytest.mark.slow
def test_the_study_of_real_speech_ends_pairs_together_and_repeats_nothing(tmp_path):
    trees.librispeech(tmp_path, {"train": 1, "others": 7})
    script = ROOT / "recipes/paper/real_speech.sh"
    settings = [
        *("data=librispeech", f"data.root={tmp_path}", "data.train=[train]", "data.test=[others]", "data.speakers=2"),
        *(f"run_dir={tmp_path}/runs", f"data.store={tmp_path}/store", "hydra.launcher.n_jobs=2", *TINY),
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [str(script), "--part", "longer", *settings]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, cwd="/")
    assert result.returncode == 0, result.stdout + result.stderr
    runs = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("summary.json")}
    assert set(runs) == {f"mask_inference_p{p}_seed{seed}" for p in (10, 100) for seed in (0, 1, 2)}
    for summary in runs.values():
        splits = summary["splits"]
        assert (splits["test"]["num_speakers"], splits["test"]["num_known_speakers"]) == (2, 2)
        assert splits["test_unknown"]["num_known_speakers"] == 0
    assert "test (known)  test_unknown (unknown)" in result.stdout
    refused = subprocess.run([str(script), "clip.p=5"], capture_output=True, text=True, env=environment)
    assert refused.returncode == 2 and "clip.p=5: the parts set it" in refused.stderr
