"""One optimizer step: features, network, loss, gradients, clipping; and what is held for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from gradclip import Clipper, ClipResult, NonFiniteGradientError
from separation.data.mixtures import Batch, Data
from separation.errors import InputError
from separation.model.features import Features, Stft, features
from separation.model.joint_batch_norm import normalised_as_one
from separation.model.separators import Separator
from separation.training.devices import Precision
from separation.training.processes import Processes
from separation.training.schedules import Schedule


@dataclass(frozen=True)
class TrainingParts:
    """Everything that a training run holds."""

    network: nn.Module
    loss: Callable[[dict[str, Tensor], Features], Tensor]
    clipper: Clipper
    optimizer: torch.optim.Optimizer
    separator: Separator
    """What makes sources of the network's outputs, for the validation's SI-SDR."""
    stft: Stft
    data: Data
    device: torch.device
    precision: Precision
    processes: Processes = field(default_factory=Processes)
    replica: nn.Module | None = None
    """The network as a step calls it (see `Processes.wrap`); None: the network itself."""
    num_parts: int = 1
    """A batch is processed in so many parts, one after another."""
    schedule: Schedule = field(default_factory=Schedule)
    averaged: AveragedModel | None = None
    """The network with the moving average of its weights, if one is taken."""


Taken = tuple[Tensor, ClipResult]
"""What a step returns: the loss, without its graph, and what clipping did."""


def train_step(parts: TrainingParts, batch: Batch, weight: float = 1.0) -> Taken:
    """One optimizer step.

    A step that is left out, as after a NaN, leaves nothing behind, in the normalisation's running statistics neither.
    `separation.training.attached_step` takes the steps of a scaled loss and of clipping on the device.

    Args:
        batch: this process's part.
        weight: see `Processes.mean_weight`.

    Returns:
        The loss, times the weight, without its graph; and what clipping did.
    """
    buffers = begin(parts)
    return finish(parts, backward(parts, batch, weight), buffers)


def begin(parts: TrainingParts) -> list[Tensor]:
    """What comes before a step's loss; returns the network's buffers as they are."""
    parts.optimizer.zero_grad()
    return [buffer.clone() for buffer in parts.network.buffers()]


def finish(parts: TrainingParts, loss: Tensor, buffers: list[Tensor]) -> Taken:
    """What comes after a step's gradients: clipping and the optimizer's step. Returns what `train_step` does.

    Args:
        buffers: from before the step.
    """
    parts.clipper.observe_loss(loss)
    with nonfinite_as_input_error(loss):
        clip = parts.clipper.clip_(parts.network.named_parameters())  # the paper's Algorithm 1
    if clip.should_step:
        parts.optimizer.step()
    else:
        restore_buffers(parts.network, buffers)
    return loss, clip


def backward(
    parts: TrainingParts, batch: Batch, weight: float, scale: Callable[[Tensor], Tensor] = lambda loss: loss
) -> Tensor:
    """Adds the gradients of a batch's loss to the network's.

    In several parts (`trainer.accumulate`) they are those of the whole batch, whose loss is a mean over mixtures, in
    less memory.

    Args:
        batch, weight: see `train_step`.
        scale: a loss to what is differentiated.

    Returns:
        The loss, times the weight, without its graph.
    """
    network = parts.replica or parts.network
    if parts.num_parts == 1:
        loss = weight * batch_loss(parts, network, batch)
        scale(finite_or_nan(loss)).backward()
        return loss.detach()
    pieces = batch.split(parts.num_parts)
    losses = []
    with normalised_as_one(parts.network, [partial(outputs, parts, parts.network, piece) for piece in pieces]):
        for number, piece in enumerate(pieces, start=1):
            with parts.processes.summed_later(network) if number < len(pieces) else nullcontext():
                loss = weight * len(piece.names) / len(batch.names) * batch_loss(parts, network, piece)
                scale(finite_or_nan(loss)).backward()
            losses.append(loss.detach())
    return torch.stack(losses).sum()


def finite_or_nan(loss: Tensor) -> Tensor:
    """The loss, times NaN where it isn't finite: its gradients may be finite all the same, and the step is left out."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)


def outputs(parts: TrainingParts, network: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], Features]:
    """What a network returns of one batch, and its features."""
    batch = batch.to(parts.device)
    feats = features(batch.sources, parts.stft, batch.noise)
    return parts.precision(network, feats.mixture), feats


def batch_loss(parts: TrainingParts, network: nn.Module, batch: Batch) -> Tensor:
    """The loss of one batch, a scalar."""
    return loss_of(parts, *outputs(parts, network, batch))


def loss_of(parts: TrainingParts, outputs: dict[str, Tensor], feats: Features) -> Tensor:
    """The loss of a network's outputs, a scalar."""
    loss = parts.loss(outputs, feats)
    if loss.ndim:
        raise InputError(
            f"model.loss: returns a tensor of shape {tuple(loss.shape)}; expected a scalar, the batch's mean"
        )
    return loss


@contextmanager
def nonfinite_as_input_error(loss: Tensor) -> Iterator[None]:
    """Names the setting that lets a clipper raise."""
    try:
        yield
    except NonFiniteGradientError as error:
        raise InputError(f"clip.on_nonfinite=raise: {error} (loss {loss.item():.3g})") from error


def restore_buffers(network: nn.Module, buffers: list[Tensor], should_step: bool | Tensor = False) -> None:
    """Gives a network its buffers back after a step that was left out; doesn't wait for a device to say so."""
    for buffer, before in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(torch.where(torch.as_tensor(should_step, device=buffer.device), buffer, before))


def on_host(results: list[ClipResult]) -> list[ClipResult]:
    """Results of several steps as plain numbers; a device that holds them is read once."""
    raw = [result.raw for result in results]
    tensors = [value.double() for fields in raw for value in fields if isinstance(value, Tensor)]
    numbers: Iterator[Any] = iter(torch.stack(tensors).tolist() if tensors else [])
    plain: list[list[Any]] = [
        [next(numbers) if isinstance(value, Tensor) else value for value in fields] for fields in raw
    ]
    return [ClipResult(*fields) for fields in plain]
