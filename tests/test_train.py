"""The entry points as a user runs them."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, call_program

from separation.data import audio
from separation.runs import checkpoint


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_everything_under_its_fixed_name(make_run):
    run = make_run()
    names = {path.name for path in run.iterdir()} - {".lock"}
    assert names == {
        *("config.yaml", "checkpoints", "steps.csv", "epochs.csv", "scores.csv", "summary.json"),
        *("audio", "tensorboard", "train.log"),
    }
    steps = read(run / "steps.csv")
    assert [row["step"] for row in steps] == ["1", "2", "3"]
    for key in ("train/loss", "train/grad_norm", "train/clip_threshold", "train/clip_coefficient"):
        assert all(float(row[key]) > 0 for row in steps)
    epochs = read(run / "epochs.csv")
    assert [row["step"] for row in epochs] == ["2", "3"]
    state = checkpoint.load(run / "checkpoints/last.pt", torch.device("cpu"))
    assert (state["progress"]["step"], state["progress"]["validated"]) == (3, 3)
    history = dict(state["clipper"]["history"])["all"].tolist()
    assert history == [float(row["train/grad_norm"]) for row in steps]


def test_scores_and_summary_agree(make_run):
    run = make_run()
    scores, summary = read(run / "scores.csv"), json.loads((run / "summary.json").read_text())
    assert len(scores) == 4 and summary["num_mixtures"] == 2
    for key in ("si_sdr", "si_sdr_improvement", "input_si_sdr"):
        assert summary[key] == pytest.approx(sum(float(row[key]) for row in scores) / 4)
    assert set(summary["oracle"]) == {"ideal_binary", "ideal_ratio", "wiener_like", "phase_sensitive"}
    assert summary["oracle"]["phase_sensitive"] > summary["input_si_sdr"]
    assert {"command", "commit", "seed", "machine", "date"} <= set(summary["provenance"])
    [folder] = (run / "audio/test").glob("best_*")
    mixture, _ = audio.read(folder / "mixture.wav")
    references = sum(audio.read(folder / f"reference_{i}.wav")[0] for i in (1, 2))
    torch.testing.assert_close(torch.from_numpy(mixture), torch.from_numpy(references), atol=1e-6, rtol=0)


def test_the_same_seed_twice_gives_the_same_bits(make_run):
    first, second = make_run(), make_run("seed=0")
    for key in ("train/loss", "train/grad_norm", "train/clip_threshold"):
        assert [row[key] for row in read(first / "steps.csv")] == [row[key] for row in read(second / "steps.csv")]
    other = make_run("seed=1")
    assert read(first / "steps.csv")[0]["train/loss"] != read(other / "steps.csv")[0]["train/loss"]
    # Every seed is tested on the same mixtures.
    for run in (second, other):
        assert [row["input_si_sdr"] for row in read(first / "scores.csv")] == [
            row["input_si_sdr"] for row in read(run / "scores.csv")
        ]


def test_evaluation_again_gives_the_same_scores_with_either_metric(make_run, tmp_path):
    run = shutil.copytree(make_run("model=whitened_kmeans"), tmp_path / "run")
    before = json.loads((run / "summary.json").read_text())
    for metrics in ("torch", "museval"):
        result = call_program("evaluate.py", f"run={run}", f"metrics={metrics}", "bss_eval=true", cwd=make_run().parent)
        assert result.returncode == 0, result.stderr
        after = json.loads((run / "summary.json").read_text())
        assert after["si_sdr"] == pytest.approx(before["si_sdr"], abs=1e-6)
        assert after["bss_eval_sdr"] > after["si_sdr"]
    assert "model's SIR (BSS Eval)" in result.stdout


def test_evaluation_takes_overrides_of_the_runs_settings(make_run, speech_folder, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    arguments = [
        f"run={run}",
        "data=folder",
        f"data.root={speech_folder}",
        "data.num_test=3",
        "data.held_out=[anna,bert]",
    ]
    before = (run / "summary.json").read_bytes()
    result = call_program("evaluate.py", *arguments, cwd=tmp_path)
    assert result.returncode == 1 and "would be replaced; give output=FOLDER" in result.stderr
    result = call_program("evaluate.py", *arguments, f"output={tmp_path}/scores", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (run / "summary.json").read_bytes() == before
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert {split: scores["num_mixtures"] for split, scores in summary["splits"].items()} == {
        "test": 3,
        "test_unknown": 3,
    }


def test_a_finished_run_is_scored_anew_only_where_scores_would_change(make_run, speech_folder, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    common = ["data=folder", f"data.root={speech_folder}", f"run_dir={run}", "trainer.resume=true", *TINY]
    for override, is_anew in (
        ("evaluation.progress=false", False),
        ("evaluation.metrics=torch", False),  # the same numbers
        ("evaluation.bss_eval=true", True),
    ):
        (run / "scores.csv").write_text("old")
        result = call_program("train.py", *common, override, cwd=run.parent)
        assert result.returncode == 0, result.stderr
        assert ((run / "scores.csv").read_text() != "old") == is_anew
        summary = json.loads((run / "summary.json").read_text())
        assert ("bss_eval_sdr" in summary) == ("scored" in summary) == is_anew
        assert summary["provenance"] == json.loads((make_run() / "summary.json").read_text())["provenance"]
    assert "evaluation.bss_eval=true" in summary["scored"]["command"]
    assert len(read(run / "steps.csv")) == 3


@pytest.mark.parametrize("oracle", ["ideal_binary", "phase_sensitive", "mixture"])
def test_oracles_are_scored_as_models_are(oracle, make_run, speech_folder, tmp_path):
    run = make_run()
    settings = ["data=folder", f"data.root={speech_folder}", "data.num_test=2", f"output={tmp_path}/scores"]
    result = call_program("evaluate.py", f"oracle={oracle}", *settings, cwd=run.parent)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    beside = json.loads((run / "summary.json").read_text())
    expected = beside["input_si_sdr"] if oracle == "mixture" else beside["oracle"][oracle]
    assert summary["si_sdr"] == pytest.approx(expected, abs=1e-6)
    assert len(list((tmp_path / "scores/audio/test").glob("*/estimate_1.wav"))) == 2
    result = call_program("evaluate.py", "oracle=best", *settings, cwd=run.parent)
    assert "oracle=best: expected one of ideal_binary, ideal_ratio, wiener_like" in result.stderr


def test_a_chimera_separates_by_either_head(make_run, tmp_path):
    run = make_run("model=chimera")
    means = []
    for separator in ("masks", "kmeans"):
        output = tmp_path / separator
        result = call_program("evaluate.py", f"run={run}", f"separator={separator}", f"output={output}", cwd=run.parent)
        assert result.returncode == 0, result.stderr
        means.append(json.loads((output / "summary.json").read_text())["si_sdr"])
    assert means[0] == json.loads((run / "summary.json").read_text())["si_sdr"] != means[1]
    for separator, output, status in (("kmeans", run, 1), ("masks", run, 0), ("masks", f"{run}/../{run.name}", 0)):
        result = call_program("evaluate.py", f"run={run}", f"separator={separator}", f"output={output}", cwd=run.parent)
        assert result.returncode == status and ("would be replaced" in result.stderr) == status, result.stderr
        summary = json.loads((run / "summary.json").read_text())
        assert summary["provenance"]["command"].startswith("python train.py") and summary["si_sdr"] == means[0]
    for separator, message in (
        ("kmeans", "separator=kmeans: needs a network with the output embedding; this one has mask"),
        ("soft", "Could not find 'separator/soft'"),
    ):
        arguments = [f"run={make_run()}", f"separator={separator}", f"output={tmp_path}/other"]
        result = call_program("evaluate.py", *arguments, cwd=run.parent)
        assert result.returncode in (1, 2) and message in result.stderr


@pytest.mark.parametrize("model", ["deep_clustering", "chimera", "waveform"])
@pytest.mark.parametrize("num_sources", [2, 3])
def test_every_model_trains_with_two_and_three_sources(model, num_sources, make_run):
    run = make_run(f"model={model}", f"mixing.num_sources={num_sources}")
    scores = read(run / "scores.csv")
    assert len(scores) == 2 * num_sources and all(np.isfinite(float(row["si_sdr"])) for row in scores)


@pytest.mark.slow
def test_every_clipping_strategy_trains(speech_folder, tmp_path):
    names = sorted(path.stem for path in (ROOT / "conf/clip").glob("*.yaml"))
    without_default = ("value", "error_feedback", "skip_above")
    common = [
        "--multirun",
        "data=folder",
        f"data.root={speech_folder}",
        *TINY,
        "evaluation.metrics=torch",
        "logger=csv",
    ]
    for run_dir, *overrides in (
        ("most", "clip=" + ",".join(name for name in names if name not in without_default)),
        ("value", "clip=value", "clip.max_value=1e-3"),
        ("skip_above", "clip=skip_above", "clip.max_norm=1e9"),
        ("error_feedback", "clip=error_feedback", "clip.max_norm=1e-3", "clip.max_error_norm=2e-3"),
        ("groups", "clip=autoclip", "clip.groups=module,tensor", "clip.window=2"),
        ("optimizer", "clip=spam", "clip.second_moment=optimizer"),
    ):
        result = call_program("train.py", *common, f"run_dir={run_dir}", *overrides, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    steps = [read(path) for path in tmp_path.rglob("steps.csv")]
    assert len(steps) == len(names) + 3
    for rows in steps:
        assert len(rows) == 3 and all(float(row["train/grad_norm"]) > 0 for row in rows)


def test_a_sweep_goes_on_after_a_failed_job(speech_folder, tmp_path):
    arguments = ["--multirun", "data=folder", f"data.root={speech_folder}", "run_dir=sweep", "clip.p=101,50,10", *TINY]
    result = call_program("train.py", *arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr + result.stdout
    assert "clip.p: expected a percentile in [0, 100], got 101" in result.stderr
    assert "1 of the runs failed; sweep/errors.txt says why" in result.stderr
    folders = sorted(path.parent.name for path in (tmp_path / "sweep").rglob("summary.json"))
    assert len(folders) == 2 and all("clip.p=" in name for name in folders)
    assert "SI-SDR improvement [dB]" in result.stdout


BAD_RUNS = {
    "missing root": (["data=folder"], 2, "data.root"),
    "no such root": (["data=folder", "data.root=nowhere"], 1, "data.root=nowhere: no such folder"),
    "group value": (["clip=autoclop"], 2, "autoclip"),
    "no choice": (["clip=null"], 2, "null is no choice of a group"),
    "a number": (["clip=10"], 2, "a number or a truth value is no choice of a group"),
    "unknown key": (["clip.q=1"], 2, "clip.q"),
    "clip.p": (["clip.p=101"], 1, "clip.p: expected a percentile in [0, 100], got 101"),
    "no test": (["data.num_test=0"], 1, "data.num_test=0: expected a whole number from 1 to"),
    "no limit": (["trainer.max_steps=null"], 1, "trainer.max_steps, trainer.max_epochs: give at least one"),
    "device": (["device=quantum"], 1, "device=quantum: expected auto, cpu, cuda or cuda:N"),
    "run_dir": (["run_dir=file/run"], 1, "file"),
    "syntax": (["clip.p=[1"], 2, "no viable alternative at input '[1'"),
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_settings_end_with_a_sentence(case, speech_folder, tmp_path):
    arguments, status, words = BAD_RUNS[case]
    (tmp_path / "file").touch()
    given = [] if "data=folder" in arguments else ["data=folder", f"data.root={speech_folder}"]
    result = call_program("train.py", "run_dir=run", *given, *arguments, cwd=tmp_path)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr and words in result.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_used_run_folder_is_refused(make_run, speech_folder):
    run = make_run()
    before = (run / "config.yaml").read_bytes()
    result = call_program(
        "train.py", "data=folder", f"data.root={speech_folder}", f"run_dir={run}", *TINY, cwd=run.parent
    )
    assert result.returncode == 1 and "holds a run already; trainer.resume=true goes on" in result.stderr
    assert (run / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("program", ["evaluate.py", "separate.py", "scripts/export_nussl.py"])
def test_damaged_runs_end_with_a_sentence(program, make_run, tmp_path):
    extra = [f"input={make_run()}/audio"] if program == "separate.py" else []

    def error(run) -> str:
        result = call_program(program, f"run={run}", *extra, cwd=tmp_path)
        assert result.returncode in (1, 2) and "Traceback" not in result.stderr, result.stderr
        return result.stderr

    assert "is no run folder (it has no config.yaml)" in error(tmp_path)
    run = shutil.copytree(make_run(), tmp_path / "run")
    best = run / "checkpoints/best.pt"
    whole = best.read_bytes()
    best.write_bytes(whole[: len(whole) // 2])
    assert "best.pt: is damaged or cut short" in error(run)
    torch.save({"format": 1, "network": {"x": torch.zeros(1)}}, best)
    assert "best.pt: its parameters don't fit" in error(run)
    best.unlink()
    assert "has no checkpoints/best.pt" in error(run)
    best.write_bytes(whole)
    (run / "config.yaml").write_text("a: [1")
    assert "config.yaml: can't be read" in error(run)


def test_divergence_is_an_error_and_leaves_no_checkpoint(speech_folder, tmp_path):
    arguments = ["data=folder", f"data.root={speech_folder}", "run_dir=run", *TINY, "optimizer.lr=inf"]
    result = call_program("train.py", *arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "optimizer.lr: training diverged in epoch 1" in result.stderr
    assert not list((tmp_path / "run").rglob("*.pt"))


@pytest.mark.parametrize("override", ["seed=5", "trainer.max_steps=0", "stft.hop_length=32", "data.sample_rate=16000"])
def test_a_trained_run_takes_no_override_that_does_not_fit_it(override, make_run, tmp_path):
    before = (make_run() / "scores.csv").read_bytes()
    result = call_program("evaluate.py", f"run={make_run()}", override, cwd=tmp_path)
    assert result.returncode == 1
    assert override.split("=")[0] in result.stderr
    assert (make_run() / "scores.csv").read_bytes() == before


def test_what_nobody_foresaw_is_a_sentence_too(make_run, tmp_path):
    run = shutil.copytree(make_run(), tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("sample_rate: 8000", "sample_rate: abc"))
    result = call_program("separate.py", f"run={run}", f"input={run}/audio", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
