"""Batch normalisation of a network's input by a batch that is never in one place: several processes have parts of it, or
it is processed part by part."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from separation.errors import InputError


def normalise_jointly(network: nn.Module) -> None:
    """Replaces batch normalisation by that over the whole batch of all processes."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm1d:
                setattr(module, name, JointBatchNorm(child))


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
        if data.requires_grad:
            raise InputError(
                "model.network: it normalises batches between its layers, which several processes can't do together;"
                " train in one process, or normalise otherwise there"
            )
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
