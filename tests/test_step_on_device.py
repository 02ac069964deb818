"""Steps for which the host waits for nothing: their losses and norms are read later, their mixing happens there too."""

import csv
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import MODELS
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gradclip import ClipResult
from separation.errors import InputError
from separation.runs import checkpoint
from separation.training.attached_step import AttachedStep
from separation.training.cuda_graph import EAGER_STEPS, GraphedStep
from separation.training.devices import Precision
from separation.training.processes import Processes
from separation.training.step import on_host, train_step

ON_DEVICE = ["clip=autoclip_on_device", "clip.window=50"]
IN_PYTHON = {
    *("item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__float__", "__int__", "__index__", "__complex__"),
    *("__contains__", "__format__", "__repr__", "nonzero", "argwhere", "equal", "allclose", "is_nonzero"),
}
"""Calls that make the host wait for a GPU. On a CPU some of them are no operation at all."""
IN_OPERATIONS = {
    *("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "unique_dim"),
    *("lift_fresh", "lift_fresh_copy"),  # a tensor made from numbers of the host
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class CallsInPython(TorchFunctionMode):
    """Notes which of `IN_PYTHON` are called."""

    def __init__(self, reads: list[str]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in IN_PYTHON:
            self.reads.append(name)
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Notes the names of the operations that run, and which of them make the host wait."""

    def __init__(self, reads: list[str]) -> None:
        super().__init__()
        self.reads = reads
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.names.add(name)
        # Indices that are a mask are counted first.
        masks = [index for index in args[1] if index is not None] if name in ("index", "index_put_") else []
        if name in IN_OPERATIONS or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks):
            self.reads.append(name)
        return function(*args, **(kwargs or {}))


def host_reads(take, batch) -> tuple[list[str], set[str]]:
    """What makes the host wait in a step, and all operations of it; a step before it makes what is kept."""
    take(batch)
    reads: list[str] = []
    with CallsInPython(reads), Operations(reads) as operations:
        take(batch)
    return reads, operations.names


@pytest.mark.parametrize(
    ("model", "clip"), [*((model, ON_DEVICE) for model in MODELS), ("mask_inference", ["clip=skip_step"])]
)
def test_a_step_reads_nothing_from_its_device(model, clip, make_parts):
    """Checked by calls and operations, since a CPU can't be waited for."""
    parts = make_parts(f"model={model}", *clip)
    reads, operations = host_reads(AttachedStep(parts), parts.data.train.excerpts(range(2), 4000))
    assert not reads and "_fused_adam_" in operations


PLANTED = {
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "float": lambda x: float(x),
    "int": lambda x: int(x),
    "bool": lambda x: bool(x),
    "if": lambda x: 1 if x > 0 else 2,
    "max": lambda x: max(x, x + 1),
    "format": lambda x: f"{x:.3f}",
    "math": lambda x: math.sqrt(x.abs()),
    "numpy.asarray": lambda x: np.asarray(x),
    "index": lambda x: [1, 2, 3][(x * 0).long()],
    "nonzero": lambda x: x.view(1).nonzero(),
    "where": lambda x: torch.where(x.view(1) > 0),
    "mask": lambda x: x.view(1)[x.view(1) > 0],
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "mask assigned": lambda x: x.view(1).clone().__setitem__(x.view(1) > 0, x.new_zeros(1)),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "unique": lambda x: torch.unique(x),
    "from the host": lambda x: x + torch.tensor([1.0, 2.0]),
}


def test_the_check_finds_every_kind_of_read(make_parts):
    parts = make_parts(*ON_DEVICE)
    loss, take, batch = parts.loss, AttachedStep(parts), parts.data.train.excerpts(range(2), 4000)

    def reads_of(planted) -> list[str]:
        def reading(outputs, feats):
            value = loss(outputs, feats)
            planted(value.detach())
            return value

        object.__setattr__(parts, "loss", reading)
        return host_reads(take, batch)[0]

    assert not [name for name, planted in PLANTED.items() if not reads_of(planted)]
    assert not reads_of(lambda x: x + 1)


def test_a_clipper_on_the_host_reads(make_parts):
    parts = make_parts("clip=autoclip")
    reads, _ = host_reads(partial(train_step, parts), parts.data.train.excerpts(range(2), 4000))
    assert "tolist" in reads


def test_a_bad_step_on_the_device_leaves_nothing_behind(make_parts):
    parts = make_parts(*ON_DEVICE)
    batch, take = parts.data.train.excerpts(range(2), 4000), AttachedStep(parts)
    take(batch)
    before = [tensor.clone() for tensor in parts.network.state_dict().values()]
    bad = batch._replace(sources=batch.sources * math.nan)
    _, result = take(bad)
    assert not result.should_step
    assert all(torch.equal(*pair) for pair in zip(before, parts.network.state_dict().values(), strict=True))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("clip", [["clip=skip_step"], ["clip=chain", "clip@clip.clippers.first=skip_step"]])
def test_a_loss_far_above_the_others_leaves_out_its_step(clip, scaled, make_parts):
    """A constant, which the gradient doesn't see, is added to the loss of step 24."""
    parts, losses = make_parts(*clip, f"{'clip' if len(clip) == 1 else 'clip.clippers.first'}.window=20"), []
    if scaled:
        parts.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    loss = parts.loss

    def spiking(outputs, feats):
        losses.append(loss(outputs, feats) + (1e3 if len(losses) == 24 else 0))
        return losses[-1]

    object.__setattr__(parts, "loss", spiking)
    take = AttachedStep(parts) if scaled or parts.clipper.on_device else partial(train_step, parts)
    batch, outcomes = parts.data.train.excerpts(range(2), 1000), []
    for _ in range(28):
        before = [tensor.clone() for tensor in parts.network.state_dict().values()]
        _, clip_result = take(batch)
        same = all(torch.equal(*pair) for pair in zip(before, parts.network.state_dict().values(), strict=True))
        assert same == (not clip_result.should_step)
        outcomes.append(clip_result.should_step)
    assert outcomes == [step != 24 for step in range(28)]
    clipper = parts.clipper if len(clip) == 1 else parts.clipper.clippers["first"]
    assert clipper.history["loss"] == pytest.approx([value.item() for value in losses[-20:]])


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


def test_what_cannot_be_captured_is_named(make_parts):
    """A GPU isn't needed to be told what else is missing."""
    on_gpu = {"device": torch.device("cuda")}

    def refusal(*overrides: str, **changes) -> str:
        with pytest.raises(InputError) as refused:
            GraphedStep(replace(make_parts(*overrides), **changes), 1.0)
        return str(refused.value)

    scaled = Precision("fp32", torch.device("cpu"))
    scaled.scaler = torch.amp.GradScaler("cpu")
    problems = {
        "device: needs a GPU": refusal(*ON_DEVICE),
        "clip: needs clip=autoclip_on_device clip.capturable=true": refusal("clip=autoclip", **on_gpu),
        "optimizer.fused: needs true": refusal("optimizer.fused=false", *ON_DEVICE, **on_gpu),
        "trainer.precision: fp16 can't be captured, take bf16": refusal(*ON_DEVICE, **on_gpu, precision=scaled),
        "torchrun: needs a single process": refusal(*ON_DEVICE, **on_gpu, processes=Processes(0, 2)),
        "scheduler: needs none, a captured step keeps its learning rate": refusal(
            *ON_DEVICE, "scheduler=cosine", **on_gpu
        ),
    }
    for problem, sentence in problems.items():
        assert sentence == f"trainer.cuda_graph=true: {problem}; or use trainer.cuda_graph=false"


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
