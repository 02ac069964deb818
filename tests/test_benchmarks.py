"""The benchmarks run, and what they compare is equal."""

import json

import pytest
from conftest import TINY, run_program


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask_inference", "whitened_kmeans"])
def test_evaluation_beside_nussls(model, make_run, tmp_path):
    run = make_run(f"model={model}")
    output = tmp_path / "bench.json"
    arguments = [f"run={run}", "num_mixtures=2", "repetitions=1", f"output={output}"]
    result = run_program("scripts/bench_eval.py", *arguments, cwd=run.parent)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    assert results["mixtures"] == 2 and "nussl takes" in result.stdout
    if model == "mask_inference":  # two k-means may end apart
        assert results["largest_difference_db"] < 1e-3
    assert all(seconds > 0 for seconds in results["seconds_a_mixture"].values())


@pytest.mark.slow
def test_separators_and_oracles_beside_nussls(make_run, tmp_path):
    run = make_run()
    output = tmp_path / "compare.json"
    arguments = [f"run={run}", "num_mixtures=2", "repetitions=1", f"output={output}"]
    result = run_program("scripts/compare_nussl.py", *arguments, cwd=run.parent)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    for name in ("ideal_binary", "ideal_ratio", "masks"):
        assert results[name]["largest_difference"] < 1e-2


@pytest.mark.slow
def test_a_training_step_beside_its_network(tmp_path):
    output = tmp_path / "bench.json"
    arguments = ["models=[mask_inference,chimera]", "repetitions=1", f"output={output}"]
    result = run_program("scripts/bench_train.py", *TINY[:2], TINY[-1], *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    for name in ("mask_inference", "chimera"):
        assert results[name]["ratio"] == pytest.approx(results[name]["whole"] / results[name]["bare"])
