"""Several processes that train one network: `torchrun --nproc-per-node=4 train.py ...`, each on its part of a batch.

torchrun's environment variables say which process this is. A program started without it is the only process, for which
every function here does nothing.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from separation.errors import InputError
from separation.model.joint_batch_norm import normalise_jointly

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

    def wrap(self, network: nn.Module, num_parts: int = 1) -> nn.Module:
        """The network as a training step calls it: averages gradients over the processes, and normalises by the whole
        batch. The network itself goes on to hold the parameters.

        Args:
            num_parts: a step's batch comes in so many parts.
        """
        if self.count > 1 or num_parts > 1:
            normalise_jointly(network)
        if self.count == 1:
            return network
        with warnings.catch_warnings():  # its new name is unknown to older torch
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(network, broadcast_buffers=False)

    def summed_later(self, network: nn.Module) -> AbstractContextManager[None]:
        """Inside, a backward pass leaves each process its own gradients; the next one outside sums both."""
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


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
