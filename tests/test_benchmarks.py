"""The benchmarks run, and what they compare is equal."""

import json

import pytest
from conftest import ROOT, TINY, run_program


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask_inference", "whitened_kmeans"])
def test_evaluation_beside_nussls(model, make_run, tmp_path):
    run = make_run(f"model={model}")
    output = tmp_path / "bench.json"
    arguments = [f"run={run}", "num_mixtures=2", "repetitions=1", f"output={output}"]
    result = run_program("benchmarks/bench_eval.py", *arguments, cwd=run.parent)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    assert results["mixtures"] == 2 and "nussl takes" in result.stdout
    if model == "mask_inference":  # two k-means may end apart
        assert results["largest_difference_db"] < 1e-3
    assert results["largest_bss_eval_difference_db"] < 1e-4
    assert all(seconds > 0 for seconds in results["seconds_a_mixture"].values())


@pytest.mark.slow
def test_separators_and_oracles_beside_nussls(make_run, tmp_path):
    run = make_run()
    output = tmp_path / "compare.json"
    arguments = [f"run={run}", "num_mixtures=2", "repetitions=1", f"output={output}"]
    result = run_program("benchmarks/compare_nussl.py", *arguments, cwd=run.parent)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    for name in ("ideal_binary", "ideal_ratio", "masks"):
        assert results[name]["largest_difference"] < 1e-2


@pytest.mark.slow
def test_a_training_step_beside_its_network(tmp_path):
    output = tmp_path / "bench.json"
    arguments = ["models=[mask_inference,chimera]", "repetitions=1", f"output={output}"]
    result = run_program("benchmarks/bench_train.py", *TINY[:2], TINY[-1], *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    for name in ("mask_inference", "chimera"):
        assert results[name]["ratio"] == pytest.approx(results[name]["whole"] / results[name]["bare"])
        assert results[name]["mixtures_a_second"] == pytest.approx(4 / results[name]["whole"])


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_what_a_run_will_cost(together, tmp_path):
    output = tmp_path / "estimate.json"
    settings = ["models=[mask_inference,chimera]", "runs=3", "workers=2", "seconds=0.1", "mixture_seconds=0.5"]
    settings += [f"together={together}"]
    result = run_program("benchmarks/estimate.py", *TINY, *settings, f"output={output}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "6 runs, 2 at once" in result.stdout
    row = json.loads(output.read_text())["chimera"]
    assert (row["steps"], row["runs_as_one"]) == (3, 3 if together else 1)
    assert row["training_seconds"] == pytest.approx(3 * row["seconds_a_step"])
    parts = [row[f"{part}_seconds"] for part in ("training", "validation", "evaluation")]
    assert row["total_seconds"] == pytest.approx(sum(parts)) and min(parts) > 0
    assert row["disk_bytes"] == 2 * (12 * row["parameters"] + 8 * 3) + 390 * 3
    assert not list(tmp_path.glob("cache*"))  # no corpus was needed


@pytest.mark.slow
def test_a_profile_adds_up(tmp_path):
    output, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    arguments = ["model=whitened_kmeans", "steps=2", f"output={output}", f"trace={trace}"]
    result = run_program("benchmarks/profile_step.py", *TINY, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    assert sum(results["kinds"].values()) == pytest.approx(1)
    assert results["kinds"]["LSTM layers, backward"] > 0 and json.loads(trace.read_text())["traceEvents"]


@pytest.mark.slow
def test_growth_over_a_run(speech_folder, tmp_path):
    """A short one: that time doesn't grow is for the quiet machine to show, but memory has to stay as it is."""
    output = tmp_path / "growth.json"
    arguments = ["steps=500", "data=folder", f"data.root={speech_folder}", f"output={output}", "threads=1"]
    result = run_program("benchmarks/bench_growth.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    assert len(results["megabytes"]) == 50 and results["megabytes"][-1] - results["megabytes"][10] < 50
    assert str(tmp_path) not in results["provenance"]["command"]


@pytest.mark.slow
def test_what_strategies_remember(tmp_path):
    output = tmp_path / "bench.json"
    names = "strategies=[none,fixed,autoclip,autoclip_windowed,autoclip_per_tensor,error_feedback]"
    arguments = [names, "repetitions=3", f"output={output}"]
    result = run_program("benchmarks/bench_strategies.py", *TINY[:2], *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    added = {name: row["bytes_a_step"] for name, row in results["strategies"].items()}
    assert (added["autoclip"], added["autoclip_windowed"], added["fixed"], added["error_feedback"]) == (8, 0, 0, 0)
    assert added["autoclip_per_tensor"] == 8 * 12  # a BLSTM layer's eight tensors, BatchNorm's and the mask's two
    floats = 4 * results["parameters"]
    assert floats <= results["strategies"]["error_feedback"]["bytes"] < floats + 100
    assert all(row["seconds"] > 0 for row in results["strategies"].values())


@pytest.mark.slow
def test_clipping_beside_clip_grad_norm(tmp_path):
    output = tmp_path / "clip.json"
    result = run_program("benchmarks/clip.py", "--quick", f"--output={output}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    operations = {(row["way"], row["clips"]): row["operations"] for row in results["clip"] if row["tensors"] == 36}
    assert operations["clip_grad_norm_", True] == operations["clip_grad_norm_", False] == 8
    assert operations["AutoClip", True] <= 5 and operations["AutoClip", False] == 3  # one pass over the gradients
    assert operations["AutoClipOnDevice", True] <= 22
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in results["clip"])
    assert results["provenance"]["command"].startswith("python benchmarks/clip.py --quick")
    for name in results["missing"]:
        assert f"{name}: not installed" in result.stdout


@pytest.mark.slow
def test_autoclip_beside_its_authors_code(speech_folder, tmp_path):
    output = tmp_path / "authors.json"
    arguments = ["data=folder", f"data.root={speech_folder}", "steps=12", f"output={output}"]
    result = run_program("benchmarks/compare_authors.py", *TINY, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    assert 0 < results["smallest_norm"] < results["largest_norm"]
    without, published = results["without epsilon"], results["as published"]
    assert without["same_bits"] and without["parameters"] == 0 and without["threshold"] < 1e-14
    assert not published["same_bits"] and published["parameters"] > 1e-4 and published["threshold"] > 1e-5


@pytest.mark.slow
def test_long_recordings_beside_their_parts(make_run, tmp_path):
    output = tmp_path / "recordings.json"
    settings = [
        "recordings=1",
        "utterances=2",
        "noise=[1e-4]",
        "segment_seconds=10",
        "overlap_seconds=2",
        "minutes=0.1",
    ]
    run = make_run()
    result = run_program("benchmarks/bench_recordings.py", f"run={run}", *settings, f"output={output}", cwd=run.parent)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    scores = results["joins"]["0.0001"]
    # One order of the voices can't be better than each part's own; of one recording the mean is the worst.
    assert scores["whole"] == scores["worst_whole"] and abs(scores["whole"] - scores["one_by_one"]) < 3
    assert 50 < results["memory"]["peak_megabytes"] < 1000 and results["memory"]["cpu_by_duration"] > 0


@pytest.mark.slow
def test_ways_to_clip_singular_values(tmp_path):
    output = tmp_path / "bench.json"
    arguments = ["shapes=[[40,20],[8,4,3,3]]", "repetitions=1", f"output={output}"]
    result = run_program("benchmarks/bench_spectral.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    for shape in ("40 x 20", "8 x 4 x 3 x 3"):
        errors = {name: row["error"] for name, row in results[shape].items()}
        assert errors["spectral_clip"] < 1e-7 < errors["svd"] < 1e-5
        assert errors["newton_schulz"] < 1e-4 and errors["gram_float32"] < 1e-4


@pytest.mark.slow
def test_runs_that_train_as_one(tmp_path):
    output = tmp_path / "together.json"
    settings = [*TINY[:5], "threads=1", "counts=[1,3]", "steps=2", f"output={output}"]
    result = run_program("benchmarks/together.py", *settings, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    row = json.loads(output.read_text())["3 runs"]
    assert row["seconds_a_run_and_step"] == pytest.approx(row["stacked"] / 3)
    assert row["times_faster"] == pytest.approx(3 * row["single"] / row["stacked"])


@pytest.mark.slow
def test_checkouts_take_turns(speech_folder, tmp_path):
    output = tmp_path / "turns.json"
    settings = [f"checkout={ROOT}", "pairs=1", "data=folder", f"data.root={speech_folder}", *TINY, f"output={output}"]
    result = run_program("benchmarks/compare_checkouts.py", *settings, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    assert results["pairs"] == [[results["steps"], results["whole"]]] and results["whole"] == pytest.approx(1, abs=0.9)
    result = run_program("benchmarks/compare_checkouts.py", "checkout=nowhere", cwd=tmp_path)
    assert result.returncode == 1 and "checkout=nowhere: holds no train.py" in result.stderr
