"""One step of several runs at once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from separation.data.mixtures import Batch
from separation.errors import InputError
from separation.model.features import Features, features
from separation.model.networks import Network
from separation.training.attached_step import AttachedStep, needs_attachment
from separation.training.step import Taken, TrainingParts, begin, finish, finite_or_nan, loss_of
from separation.training.together.stacked_blstm import stacked_blstm


class Seat(NamedTuple):
    """What a joint step needs of a run."""

    parts: TrainingParts
    finish: Callable[[Tensor, list[Tensor]], Taken]
    """What comes after its gradients."""

    @classmethod
    def of(cls, parts: TrainingParts) -> "Seat":
        return cls(parts, AttachedStep(parts).finish if needs_attachment(parts) else partial(finish, parts))


def joint_step(seats: Sequence[Seat], batches: Sequence[Batch], stacked: bool) -> list[Taken | InputError]:
    """Takes a step of each run, as `train_step` would.

    The runs' parameters have nothing in common, so the gradients of the sum of their losses are each run's own, and a
    NaN stays in the run that has it.

    Args:
        batches: of each run; where some are the same object, their features are computed once.
        stacked: the BLSTMs of all runs work as one (`stacked_blstm`); otherwise one after another.

    Returns:
        For each run what `train_step` returns, or the error that ends it.
    """
    feats: dict[int, Features] = {}
    for seat, batch in zip(seats, batches, strict=True):
        if id(batch.sources) not in feats:
            here = batch.to(seat.parts.device)
            feats[id(batch.sources)] = features(here.sources, seat.parts.stft, here.noise)
    of_runs = [feats[id(batch.sources)] for batch in batches]
    buffers = [begin(seat.parts) for seat in seats]
    if stacked:
        losses = _losses(seats, of_runs)
        torch.stack([finite_or_nan(loss) for loss in losses]).sum().backward()
    else:
        losses = []
        for seat, feat in zip(seats, of_runs, strict=True):
            losses.append(loss_of(seat.parts, seat.parts.precision(seat.parts.network, feat.mixture), feat))
            finite_or_nan(losses[-1]).backward()
    taken: list[Taken | InputError] = []
    for seat, loss, before in zip(seats, losses, buffers, strict=True):
        try:
            taken.append(seat.finish(loss.detach(), before))
        except InputError as error:
            taken.append(error)
    return taken


def _losses(seats: Sequence[Seat], of_runs: Sequence[Features]) -> list[Tensor]:
    """Each run's loss, by its own network but for the BLSTMs."""
    networks = [cast(Network, seat.parts.network) for seat in seats]
    encoded = []
    for seat, network, feat in zip(seats, networks, of_runs, strict=True):
        with seat.parts.precision.inside(network):
            encoded.append(network.encode(feat.mixture))
    hidden = stacked_blstm([network.blstm for network in networks], torch.stack(encoded))
    losses = []
    for seat, network, feat, states in zip(seats, networks, of_runs, hidden, strict=True):
        with seat.parts.precision.inside(network):
            outputs = network.decode(states)
        losses.append(loss_of(seat.parts, seat.parts.precision.checked(outputs, feat.mixture), feat))
    return losses
