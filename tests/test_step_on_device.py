"""Steps for which the host waits for nothing: their losses and norms are read later, their mixing happens there too."""

import csv
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradclip import ClipResult
from separation.errors import InputError
from separation.runs import checkpoint
from separation.training.attached_step import AttachedStep
from separation.training.cuda_graph import EAGER_STEPS, GraphedStep
from separation.training.step import on_host, train_step

MODELS = ["mask_inference", "waveform", "deep_clustering", "whitened_kmeans", "chimera"]
ON_DEVICE = ["clip=autoclip_on_device", "clip.capacity=50"]
HOST_READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "lift_fresh", "lift_fresh_copy"}
"""Operations that make the host wait for a GPU, or send it something."""
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recorded(TorchDispatchMode):
    """Notes the names of the operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", MODELS)
def test_a_step_reads_nothing_from_its_device(model, make_parts):
    """Checked by the operations that it consists of, since a CPU can't be waited for."""
    parts = make_parts(f"model={model}", *ON_DEVICE)
    batch, take = parts.data.train.excerpts(range(2), 4000), AttachedStep(parts)
    take(batch)
    with Recorded() as recorded:
        take(batch)
    assert not recorded.names & HOST_READS and "_fused_adam_" in recorded.names


def test_the_check_finds_a_read(make_parts):
    parts = make_parts("clip=autoclip")
    with Recorded() as recorded:
        train_step(parts, parts.data.train.excerpts(range(2), 4000))
    assert "_local_scalar_dense" in recorded.names or "_to_copy" in recorded.names


def test_a_bad_step_on_the_device_leaves_nothing_behind(make_parts):
    parts = make_parts(*ON_DEVICE)
    batch, take = parts.data.train.excerpts(range(2), 4000), AttachedStep(parts)
    take(batch)
    before = [tensor.clone() for tensor in parts.network.state_dict().values()]
    bad = batch._replace(sources=batch.sources * math.nan)
    _, result = take(bad)
    assert not result.should_step
    assert all(torch.equal(*pair) for pair in zip(before, parts.network.state_dict().values(), strict=True))


@pytest.mark.parametrize("clip", [["clip=autoclip"], ON_DEVICE])
def test_reading_later_changes_nothing(clip, make_run):
    """Five steps, two an epoch, read one by one, or as many at once as an epoch has."""
    overrides = ["trainer.max_steps=5", *clip]
    runs = [make_run(*overrides), make_run(*overrides, "trainer.log_steps=3", "trainer.store_on_device=true")]
    tables = []
    for run in runs:
        with open(run / "steps.csv", newline="") as file:
            tables.append([{key: row[key] for key in row if key != "train/seconds"} for row in csv.DictReader(file)])
    assert tables[0] == tables[1] and len(tables[0]) == 5
    states = [checkpoint.load(run / "checkpoints" / "last.pt", torch.device("cpu")) for run in runs]
    for name, value in states[0]["network"].items():
        assert torch.equal(value, states[1]["network"][name])


def test_mixing_on_the_device_gives_the_same_values(make_parts):
    train = make_parts().data.train
    ours = [train.excerpts(range(8), num_samples, epoch=3) for num_samples in (1000, 20_000)]  # and padded
    train.store.to_device(torch.device("cpu"))
    for expected, num_samples in zip(ours, (1000, 20_000), strict=True):
        actual = train.excerpts(range(8), num_samples, epoch=3)
        assert torch.equal(actual.sources, expected.sources) and actual.names == expected.names


def test_results_come_to_the_host_together():
    device = ClipResult(*(torch.tensor(value) for value in (2.0, 1.0, 0.5)), torch.tensor(True))
    assert on_host([ClipResult(3.0), device]) == [ClipResult(3.0), ClipResult(2.0, 1.0, 0.5, 1.0)]


@pytest.mark.parametrize(("overrides", "problem"), [([], "device: needs a GPU"), (ON_DEVICE, "device: needs a GPU")])
def test_what_cannot_be_captured_is_named(overrides, problem, make_parts):
    with pytest.raises(InputError, match=f"trainer.cuda_graph=true: {problem}; or use trainer.cuda_graph=false"):
        GraphedStep(make_parts(*overrides), 1.0)


@needs_gpu
@pytest.mark.parametrize("model", MODELS)
def test_a_captured_step_is_the_eager_one(model, make_parts):
    eager, captured = (make_parts(f"model={model}", *ON_DEVICE, device=torch.device("cuda")) for _ in range(2))
    take, take_eagerly = GraphedStep(captured, 1.0), AttachedStep(eager)
    for step in range(EAGER_STEPS + 20):
        batch = eager.data.train.excerpts(range(2 * step, 2 * step + 2), 4000)
        (loss, clip), (own_loss, own_clip) = take_eagerly(batch), take(batch)
        torch.testing.assert_close(own_loss, loss, rtol=1e-4, atol=1e-6)
        assert own_clip.threshold == pytest.approx(clip.threshold, rel=1e-3)
