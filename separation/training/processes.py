"""Several processes that train one network: `torchrun --nproc-per-node=4 train.py ...`, each on its part of a batch.

torchrun's environment variables say which process this is. A program started without it is the only process, for which
every function here does nothing.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from separation.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that work together."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def part(self, items: range) -> range:
        """This process's share of a range: contiguous, and as large as the others' but for one."""
        first, last = (len(items) * rank // self.count for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def mean_weight(self, batch_size: int) -> float:
        """What this process's mean over its part of a batch is multiplied by, so that the mean over processes is the
        mean over the batch."""
        return len(self.part(range(batch_size))) * self.count / batch_size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until every process is here."""
        self.gather(None)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as a training step calls it: averages gradients over the processes, and normalises by the whole
        batch. The network itself goes on to hold the parameters."""
        if self.count == 1:
            return network
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm1d:
                    setattr(module, name, JointBatchNorm(child))
        with warnings.catch_warnings():  # its new name is unknown to older torch
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(network, broadcast_buffers=False)


class JointBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of a network's *input* by the statistics of all processes' parts of the batch, on any device.

    No gradient passes through the statistics: the input is data. (torch's SyncBatchNorm lets it pass, on GPUs only.)
    """

    def __init__(self, other: nn.BatchNorm1d) -> None:
        super().__init__(other.num_features, other.eps, other.momentum)
        self._parameters, self._buffers = other._parameters, other._buffers  # the same ones: an optimizer may have them

    def forward(self, data: Tensor) -> Tensor:
        """As BatchNorm1d, shape (batch, feature, point)."""
        if not self.training:
            return super().forward(data)
        assert not data.requires_grad
        double = data.double()
        moments = torch.stack([double.sum((0, 2)), double.square().sum((0, 2)), torch.ones_like(double[0, :, 0])])
        moments[2] *= data.shape[0] * data.shape[2]
        dist.all_reduce(moments)
        mean, square, count = moments[0] / moments[2], moments[1] / moments[2], moments[2]
        variance = square - mean.square()
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        with torch.no_grad():
            self.running_mean.lerp_(mean.float(), self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_((variance * count / (count - 1)).float(), self.momentum)  # type: ignore[union-attr, arg-type]
        return nn.functional.batch_norm(data, mean.float(), variance.float(), self.weight, self.bias, eps=self.eps)


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process where a machine's processes have one each; `device` otherwise."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun has started, connected (NCCL between GPUs, gloo between CPUs); or this one alone.

    Raises:
        InputError: they don't find each other, or one of them ends before the others.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield Processes()
        return
    rank = int(os.environ["RANK"])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        yield Processes(rank, count)
        dist.barrier()
    except (dist.DistError, RuntimeError) as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in LOST):
            raise
        raise InputError(
            f"torchrun: process {rank} of {count} lost another one ({str(error).splitlines()[0][:200]}); where that one"
            " gives no reason itself, start again with trainer.resume=true: the last checkpoint is whole"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


LOST = ("gloo", "Connection", "NCCL", "peer", "rendezvous")
"""What torch's errors say where a connection to another process breaks."""
