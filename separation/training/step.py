"""One optimizer step: features, network, loss, gradients, clipping; and what is held for it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradclip import Attachment, ClipResult, NonFiniteGradientError
from separation.data.mixtures import Batch, Data
from separation.errors import InputError, check_choice
from separation.model.features import Features, Stft, features
from separation.model.networks import allow_tf32
from separation.training.processes import Processes

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GPU_ONLY = ("tf32", "fp16")


class Precision:
    """The number format in which the network computes; parameters, features and losses stay in float32.

    Args:
        name: fp32; bf16; on GPUs also tf32 (float32, but factors have 10 bits of mantissa) or fp16, whose loss is
            scaled so that small gradients don't vanish.
        device: where.

    Raises:
        InputError: there is no such format here.

    Attributes:
        scaler: of the loss; does nothing but for fp16.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.dtype = PRECISIONS[check_choice("trainer.precision", name, tuple(PRECISIONS))]
        if name in GPU_ONLY and device.type == "cpu":
            raise InputError(f"trainer.precision={name}: needs a GPU; take bf16 or fp32 on a CPU")
        allow_tf32(name == "tf32")
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def __call__(self, network: nn.Module, magnitude: Tensor) -> dict[str, Tensor]:
        """The network's outputs in float32."""
        if self.dtype == torch.float32:
            return network(magnitude)
        exact_lstm = self.device.type == "cuda" and self.dtype == torch.bfloat16
        with torch.autocast(self.device.type, self.dtype), _lstm_in_float32(network) if exact_lstm else nullcontext():
            outputs = network(magnitude)
        return {name: output.float() for name, output in outputs.items()}


@contextmanager
def _lstm_in_float32(network: nn.Module) -> Iterator[None]:
    """Keeps autocast out of a network's LSTM: cuDNN's has no bfloat16, and torch would take unscaled float16."""
    layers = [module for module in network.modules() if isinstance(module, nn.RNNBase)]
    for layer in layers:
        layer.forward = torch.autocast("cuda", enabled=False)(layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@dataclass(frozen=True)
class TrainingParts:
    """Everything that a training run holds."""

    network: nn.Module
    loss: Callable[[dict[str, Tensor], Features], Tensor]
    clipping: Attachment
    optimizer: torch.optim.Optimizer
    stft: Stft
    data: Data
    device: torch.device
    precision: Precision
    processes: Processes = field(default_factory=Processes)
    replica: nn.Module | None = None
    """The network as a step calls it (see `Processes.wrap`); None: the network itself."""


def batch_loss(parts: TrainingParts, network: nn.Module, batch: Batch) -> Tensor:
    """The loss of one batch, a scalar."""
    batch = batch.to(parts.device)
    feats = features(batch.sources, parts.stft, batch.noise)
    return parts.loss(parts.precision(network, feats.mixture_magnitude), feats)


def train_step(parts: TrainingParts, batch: Batch, weight: float = 1.0) -> tuple[Tensor, ClipResult]:
    """One optimizer step, which clips first (see `Clipper.attach`).

    A step that is left out, as after a NaN, leaves nothing behind, in the normalisation's running statistics neither.

    Args:
        batch: this process's part.
        weight: see `Processes.mean_weight`.

    Returns:
        The loss, times the weight, without its graph; and what clipping did. With a clipper that works on the device
        and a fused optimizer, nothing here waits for the device.
    """
    buffers = [buffer.clone() for buffer in parts.network.buffers()]
    scaler, optimizer = parts.precision.scaler, parts.optimizer
    optimizer.zero_grad()
    loss = weight * batch_loss(parts, parts.replica or parts.network, batch)
    # A loss that isn't finite may have finite gradients; times NaN they have none, and the step is left out.
    scaler.scale(loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)).backward()
    if scaler.is_enabled() and not getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)
    parts.clipping.result = None
    try:
        scaler.step(optimizer)
    except NonFiniteGradientError as error:
        raise InputError(f"clip.on_nonfinite=raise: {error} (loss {loss.item():.3g})") from error
    scaler.update()
    # Without a result, GradScaler has left the optimizer out: the scaled gradients overflowed.
    result = parts.clipping.result or ClipResult(math.nan, math.nan, should_step=False)
    _restore_unless(result.raw.should_step, parts.network, buffers)
    return loss.detach(), result


def _restore_unless(should_step: bool | Tensor, network: nn.Module, buffers: list[Tensor]) -> None:
    """Gives a network its buffers back after a step that was left out; doesn't wait for a device to say so."""
    if should_step is True:
        return
    for buffer, before in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(torch.where(torch.as_tensor(should_step, device=buffer.device), buffer, before))


def on_host(results: list[ClipResult]) -> list[ClipResult]:
    """Results of several steps as plain numbers; a device that holds them is read once."""
    values = [value for result in results for value in result.raw]
    tensors = [value.double() for value in values if isinstance(value, Tensor)]
    read = iter(torch.stack(tensors).tolist() if tensors else [])
    numbers: list[Any] = [next(read) if isinstance(value, Tensor) else value for value in values]
    return [ClipResult(*numbers[i : i + 4]) for i in range(0, len(numbers), 4)]
