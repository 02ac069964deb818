import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import processes
from gradclip import AdaGC, AutoClip, ValueClip


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What the two processes of a torchrun saw."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*command, processes.__file__, str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "clipper"),
    [
        ("ddp", AutoClip(p=25)),
        ("fsdp", AutoClip(p=25)),
        ("fsdp tensor", AutoClip(p=25, groups="tensor")),
        ("fsdp adagc", AdaGC(warmup=3)),
    ],
)
def test_both_ranks_agree_with_one_process_on_the_joined_batch(ranks, case, clipper):
    assert ranks[0][case] == ranks[1][case]
    alone = processes.train(processes.network(), clipper, slice(None))
    np.testing.assert_allclose(ranks[0][case], alone, rtol=2e-5)
    assert any(coefficient < 1 for _, _, coefficient in alone)


@pytest.mark.slow
def test_clipping_by_value_works_on_shards(ranks):
    alone = processes.train(processes.network(), ValueClip(0.1), slice(None))
    np.testing.assert_allclose([row[0] for row in ranks[0]["fsdp value"]], [row[0] for row in alone], rtol=2e-5)
    assert ranks[0]["fsdp value"] == ranks[1]["fsdp value"]
    assert all(math.isinf(threshold) for _, threshold, _ in alone)


@pytest.mark.slow
def test_a_nan_on_one_rank_skips_the_step_on_all(ranks):
    assert ranks[0]["skips"] and ranks[1]["skips"]


@pytest.mark.slow
def test_the_processes_skip_by_the_mean_of_their_losses(ranks):
    assert ranks[0]["skipped steps"] == ranks[1]["skipped steps"] == [25]
    assert [step for step in range(40) if processes.loss_of(0, step) > 40] == [30]  # what rank 0 would skip alone


@pytest.mark.slow
def test_what_needs_whole_units_refuses_shards(ranks):
    assert all(
        "AGC needs dense, real gradients on one process, but 0.weight's is distributed" in r["refusal"] for r in ranks
    )


@pytest.mark.slow
@pytest.mark.parametrize("original", [True, False])
def test_fsdp_of_the_first_kind_is_refused(ranks, original):
    assert all("is sharded by FullyShardedDataParallel" in seen[f"fsdp1 {original}"] for seen in ranks)


@pytest.mark.slow
def test_a_distributed_checkpoint_gives_the_history_back(ranks):
    assert all(seen["fsdp checkpoint"] and seen["fsdp tensor checkpoint"] for seen in ranks)


@pytest.mark.slow
def test_tensors_that_are_spread_in_different_ways_have_one_norm(ranks):
    """Over two meshes, by rows and columns, whole, in summands, and with a process that holds no row."""
    whole = list(processes.tensors().values())
    total = math.hypot(*(float(tensor.double().norm()) for tensor in whole))
    for seen in (ranks[0]["spread"], ranks[1]["spread"]):
        np.testing.assert_allclose(seen["norms"], [float(tensor.norm()) for tensor in whole], rtol=1e-6)
        np.testing.assert_allclose(seen["largest"], [float(tensor.abs().max()) for tensor in whole], rtol=1e-6)
        for clipped, tensor in zip(seen["clipped"], whole, strict=True):
            np.testing.assert_allclose(clipped, tensor / total, rtol=1e-5, atol=1e-7)
