"""Run by torchrun in two processes: clippers under DDP and FSDP, and their checkpoints; writes what each saw."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from gradclip import AGC, AdaGC, AutoClip, Clipper, FixedClip, SkipStep, ValueClip
from gradclip.gradients import Gradients
from gradclip.tensors import reduced

STEPS, BATCH = 20, 8


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))


def batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(BATCH, 6, generator=generator) * (1 + step % 5) ** 2


def train(model: nn.Module, clipper: Clipper, rows: slice) -> list[tuple[float, float, float]]:
    """Norms, thresholds and coefficients of some steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    results = []
    for step in range(STEPS):
        optimizer.zero_grad()
        model(batch(step)[rows]).square().mean().backward()
        result = clipper.clip_(model.named_parameters())
        optimizer.step()
        results.append((result.grad_norm, result.threshold, result.coefficient))
    return results


def skips(model: nn.Module, rank: int) -> bool:
    """Whether a NaN on rank 0 alone makes every rank skip."""
    clipper = FixedClip()
    model(batch(0) if rank else batch(0) * float("nan")).square().mean().backward()
    return not clipper.clip_(model.named_parameters()).should_step


def skipped_steps(rank: int) -> list[int]:
    """Which steps are left out where the two processes see equal gradients and losses of their own."""
    clipper, parameter = SkipStep(window=20), nn.Parameter(torch.zeros(1))
    skipped = []
    for step in range(40):
        parameter.grad = torch.ones(1)
        loss = torch.tensor(loss_of(rank, step), dtype=torch.float64)
        clipper.observe_loss(loss)
        if not clipper.clip_([parameter]).should_step:
            skipped.append(step)
        assert loss.item() == loss_of(rank, step)
    return skipped


def loss_of(rank: int, step: int) -> float:
    """A spike on rank 1 in step 25; in step 30 one on each, which cancel."""
    return step % 3 + {(1, 25): 50.0, (0, 30): 50.0, (1, 30): -50.0}.get((rank, step), 0.0)


def refusal(clipper: Clipper, model: nn.Module) -> str:
    model.zero_grad()
    model(batch(0)).square().mean().backward()
    try:
        clipper.clip_(model.named_parameters())
    except ValueError as error:
        return str(error)
    return "none"


def comes_back(clipper: Clipper, fresh: Clipper, folder: Path) -> bool:
    """Whether a clipper's state comes out of a distributed checkpoint as it went in."""
    dcp.save({"clip": clipper}, checkpoint_id=folder)
    before = str(fresh.state_dict())
    dcp.load({"clip": fresh}, checkpoint_id=folder)
    return str(fresh.state_dict()) == str(clipper.state_dict()) != before


SPREAD: dict[str, tuple[str, list[Placement]]] = {
    "rows": ("line", [Shard(0)]),
    "columns": ("line", [Shard(1)]),
    "one row for two": ("line", [Shard(0)]),
    "whole": ("line", [Replicate()]),
    "another mesh": ("square", [Replicate(), Shard(0)]),
    "summands": ("line", [Partial()]),
}
"""Of each parameter, over which mesh and how it is spread."""


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn((1 if "one" in name else 4, 3), generator=generator) for name in SPREAD}


def spread(name: str, tensor: torch.Tensor, meshes: dict[str, DeviceMesh]) -> DTensor:
    mesh, placements = meshes[SPREAD[name][0]], SPREAD[name][1]
    if placements != [Partial()]:
        return distribute_tensor(tensor, mesh, placements)
    return DTensor.from_local(tensor - 7 if dist.get_rank() else torch.full_like(tensor, 7), mesh, placements)


def spread_in_every_way() -> dict[str, object]:
    """Norms and largest magnitudes of DTensors of all kinds together, and the gradients clipped to a norm of 1."""
    meshes = {
        "line": init_device_mesh("cpu", (2,), mesh_dim_names=("data",)),
        "square": init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "expert")),
    }
    parameters = []
    for name, value in tensors().items():
        grad = spread(name, value, meshes)
        parameter = nn.Parameter(reduced(torch.zeros_like(grad)))
        parameter.grad = grad
        parameters.append((name, parameter))
    grads = Gradients(parameters, with_max=True)
    norms, largest = grads.norms, grads.max_abs
    FixedClip(1.0).clip_(parameters)
    clipped = [parameter.grad.full_tensor().tolist() for _, parameter in parameters]
    return {"norms": norms, "largest": largest, "clipped": clipped}


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    seen = {"ddp": train(DistributedDataParallel(network()), AutoClip(p=25), half)}
    for name, clipper in {
        "fsdp": AutoClip(p=25),
        "fsdp tensor": AutoClip(p=25, groups="tensor"),
        "fsdp adagc": AdaGC(warmup=3),
        "fsdp value": ValueClip(0.1),
    }.items():
        model = network()
        for layer in (model[0], model[2]):
            fully_shard(layer)
        fully_shard(model)
        seen[name] = train(model, clipper, half)
        if name in ("fsdp", "fsdp tensor"):
            fresh = AutoClip(p=25, groups=clipper.groups)
            seen[f"{name} checkpoint"] = comes_back(clipper, fresh, folder / name)
    seen["skips"] = skips(model, rank)
    seen["spread"] = spread_in_every_way()
    seen["skipped steps"] = skipped_steps(rank)
    seen["refusal"] = refusal(AGC(), model)
    for original in (True, False):
        sharded = FullyShardedDataParallel(network(), use_orig_params=original, device_id=torch.device("cpu"))
        seen[f"fsdp1 {original}"] = refusal(AutoClip(), sharded)
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    dist.barrier()
    # gloo's threads at times abort an interpreter that ends in the usual way ("terminate called without an active
    # exception"); what is tested lies on the disk by now.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
