"""Run by torchrun in two processes: AutoClip under DDP and FSDP2; writes what each rank saw."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from gradclip import AGC, AdaGC, AutoClip, Clipper, FixedClip, ValueClip

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


def refusal(model: nn.Module) -> str:
    model.zero_grad()
    model(batch(0)).square().mean().backward()
    try:
        AGC().clip_(model.named_parameters())
    except ValueError as error:
        return str(error)
    return "none"


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
    seen["skips"] = skips(model, rank)
    seen["refusal"] = refusal(model)
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    dist.barrier()
    # gloo's threads at times abort an interpreter that ends in the usual way ("terminate called without an active
    # exception"); what is tested lies on the disk by now.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
