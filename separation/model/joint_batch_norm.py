"""Batch normalisation of a network's input by a batch that is never in one place: processes share it, or it comes in
several parts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist
from torch import Tensor, nn

from separation.errors import InputError


def normalise_jointly(network: nn.Module) -> None:
    """Replaces batch normalisation by that over the whole batch."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm1d:
                setattr(module, name, JointBatchNorm(child))


class JointBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of a network's *input* by the statistics of all processes' parts of the batch, on any device.

    No gradient passes through the statistics: the input is data. (torch's SyncBatchNorm lets it pass, on GPUs only.)

    Attributes:
        moments: of the whole batch, where this process has it in several parts (see `normalised_as_one`).
    """

    def __init__(self, other: nn.BatchNorm1d) -> None:
        super().__init__(other.num_features, other.eps, other.momentum)
        self._parameters, self._buffers = other._parameters, other._buffers  # the same ones: an optimizer may have them
        self.moments: Tensor | None = None

    def forward(self, data: Tensor) -> Tensor:
        """As BatchNorm1d, shape (batch, feature, point)."""
        if not self.training:
            return super().forward(data)
        if data.requires_grad:
            raise InputError(
                "model.network: it normalises batches between its layers, which several processes or parts of a batch"
                " can't do together; train in one process with trainer.accumulate=1, or normalise otherwise there"
            )
        moments = self.moments
        if moments is None:
            moments = _summed(_moments(data))
            self.track(moments)
        mean, variance = _mean_and_variance(moments)
        return nn.functional.batch_norm(data, mean.float(), variance.float(), self.weight, self.bias, eps=self.eps)

    @torch.no_grad()
    def track(self, moments: Tensor) -> None:
        """Counts a batch into the running statistics."""
        mean, variance = _mean_and_variance(moments)
        count = moments[2]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        self.running_mean.lerp_(mean.float(), self.momentum)  # type: ignore[union-attr, arg-type]
        self.running_var.lerp_((variance * count / (count - 1)).float(), self.momentum)  # type: ignore[union-attr, arg-type]


def _moments(data: Tensor) -> Tensor:
    """Sum, sum of squares and number of each feature's points, shape (3, feature)."""
    double = data.double()
    moments = torch.stack([double.sum((0, 2)), double.square().sum((0, 2)), torch.ones_like(double[0, :, 0])])
    moments[2] *= data.shape[0] * data.shape[2]
    return moments


def _summed(moments: Tensor) -> Tensor:
    """The sum over processes."""
    if dist.is_initialized():
        dist.all_reduce(moments)
    return moments


def _mean_and_variance(moments: Tensor) -> tuple[Tensor, Tensor]:
    mean, square = moments[0] / moments[2], moments[1] / moments[2]
    return mean, square - mean.square()


class _AllSeen(Exception):  # noqa: N818 (no error)
    """Ends a forward pass that is of no further use."""


@contextmanager
def normalised_as_one(network: nn.Module, passes: Iterable[Callable[[], object]]) -> Iterator[None]:
    """Inside, a network normalises its input by the statistics of a whole batch, whose parts it gets one after another.

    Args:
        network: whose batch normalisation is joint.
        passes: for each part its forward pass, which ends as soon as all statistics are taken.
    """
    norms = [module for module in network.modules() if isinstance(module, JointBatchNorm)]
    totals: dict[JointBatchNorm, Tensor] = {}
    waiting: set[nn.Module] = set()

    def take(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, JointBatchNorm)
        norm.moments = _moments(inputs[0])
        totals[norm] = totals[norm] + norm.moments if norm in totals else norm.moments
        waiting.discard(norm)
        if not waiting:
            raise _AllSeen

    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    try:
        with torch.no_grad():
            for forward in passes if norms else ():
                waiting.update(norms)
                with suppress(_AllSeen):
                    forward()
        for hook in hooks:
            hook.remove()
        for norm, moments in totals.items():
            norm.moments = _summed(moments)
            norm.track(norm.moments)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.moments = None
