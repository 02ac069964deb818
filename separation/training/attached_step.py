"""Steps with the clipper inside of the optimizer's step: with a scaled loss, and with clipping on the device."""

import math

from torch import Tensor

from gradclip import ClipResult
from separation.data.mixtures import Batch
from separation.training.step import Taken, TrainingParts, backward, begin, nonfinite_as_input_error, restore_buffers


def needs_attachment(parts: TrainingParts) -> bool:
    """Whether the clipper belongs inside of the optimizer's step: GradScaler decides there whether a step is taken, and
    a fused optimizer leaves out a step there without the host's knowledge."""
    return parts.precision.scaler.is_enabled() or parts.clipper.on_device


class AttachedStep:
    """Takes optimizer steps as `train_step` does. With a clipper that works on the device and a fused optimizer,
    nothing here waits for the device.

    Args:
        parts: whose optimizer has no clipper attached yet.
        weight: see `train_step`.
    """

    def __init__(self, parts: TrainingParts, weight: float = 1.0) -> None:
        self.parts = parts
        self.weight = weight
        self.attachment = parts.clipper.attach(parts.optimizer, parts.network.named_parameters())

    def __call__(self, batch: Batch) -> Taken:
        """As `train_step`."""
        buffers = begin(self.parts)
        return self.finish(backward(self.parts, batch, self.weight, self.parts.precision.scaler.scale), buffers)

    def finish(self, loss: Tensor, buffers: list[Tensor]) -> Taken:
        """As the other `finish`."""
        parts, scaler, optimizer = self.parts, self.parts.precision.scaler, self.parts.optimizer
        if scaler.is_enabled() and not getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)
        self.attachment.result = None
        parts.clipper.observe_loss(loss)
        with nonfinite_as_input_error(loss):
            scaler.step(optimizer)
        scaler.update()
        # Without a result, GradScaler has left the optimizer out: the scaled gradients overflowed.
        clip = self.attachment.result or ClipResult(math.nan, math.nan, should_step=False)
        if clip.raw.should_step is not True:
            restore_buffers(parts.network, buffers, clip.raw.should_step)
        return loss, clip
