"""Training dynamics: how far a step goes, and how fast the gradient changes along it (Figure 1 of the paper)."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gradclip import ClipResult
from separation.data.mixtures import Batch
from separation.errors import InputError
from separation.training.recorder import MetricsLog
from separation.training.resume import random_states, restore_random_states
from separation.training.step import TrainingParts, batch_loss

COLUMNS = ("step", "loss", "grad_norm", "step_size", "smoothness", "threshold")


class RecordedSteps:
    """Takes steps as they are, and adds a row to `dynamics.csv` every so many of them.

    Step size: ||theta_t - theta_{t-1}||. Local smoothness: the gradient's local Lipschitz constant,
    ||grad f(theta') - grad f(theta_{t-1})|| / ||theta' - theta_{t-1}|| at the point theta' half-way between theta_{t-1}
    and theta_t, f being the loss on the step's own batch (Santurkar et al., 2018; Zhang et al., 2020).

    Training takes the same steps bit for bit as without: parameters, normalisation and random numbers are put back.

    Args:
        take: takes a step.
        parts: what it changes.
        path: of the table; one that exists is continued.
        every: steps between two rows.
        step: steps taken before.

    Raises:
        InputError: several processes train, or what a step changes can't be put back.
    """

    def __init__(
        self,
        take: Callable[[Batch], tuple[Tensor, ClipResult]],
        parts: TrainingParts,
        path: Path,
        every: int,
        step: int,
    ) -> None:
        dropout = any(isinstance(module, nn.RNNBase) and module.dropout > 0 for module in parts.network.modules())
        problems = {
            "a single process: use null with torchrun": parts.processes.count > 1,
            "gradients without a scale: take bf16 or fp32 instead of trainer.precision=fp16": (
                parts.precision.scaler.is_enabled()
            ),
            # cuDNN's masks can't be put back, so recording would change training.
            "model.dropout=0 on a GPU": dropout and parts.device.type == "cuda",
        }
        for problem in (problem for problem, is_there in problems.items() if is_there):
            raise InputError(f"trainer.dynamics_steps={every}: needs {problem}")
        self.take = take
        self.parts = parts
        self.every = every
        self.step = step
        self.log = MetricsLog(path, COLUMNS, step)

    def __call__(self, batch: Batch) -> tuple[Tensor, ClipResult]:
        """As `take`."""
        self.step += 1
        if self.step % self.every:
            return self.take(batch)
        before, states = self._parameters(), random_states(self.parts.device)
        loss, clip = self.take(batch)
        size, smoothness = self._measure(batch, before, states)
        measured = (self.step, float(loss), clip.grad_norm, size, smoothness, clip.threshold)
        self.log.write(dict(zip(COLUMNS, measured, strict=True)))
        self.log.sync()
        return loss, clip

    def _parameters(self) -> list[Tensor]:
        """A copy."""
        return [parameter.detach().clone() for parameter in self.parts.network.parameters()]

    def _measure(self, batch: Batch, before: list[Tensor], states: list[Tensor]) -> tuple[float, float]:
        """Step size and smoothness of the step that was just taken."""
        after, states_after = self._parameters(), random_states(self.parts.device)
        buffers = [buffer.clone() for buffer in self.parts.network.buffers()]
        step = [new - old for new, old in zip(after, before, strict=True)]
        size = _norm(step)
        try:
            first = self._gradient(batch, before, states)
            half_way = [old + 0.5 * difference for old, difference in zip(before, step, strict=True)]
            gradient = self._gradient(batch, half_way, states)
            change = _norm([new - old for new, old in zip(gradient, first, strict=True)])
        finally:
            self._set(after)
            for buffer, value in zip(self.parts.network.buffers(), buffers, strict=True):
                buffer.copy_(value)
            restore_random_states(states_after, self.parts.device)
        return size, change / (0.5 * size) if size else math.nan  # NaN: the step was left out

    def _gradient(self, batch: Batch, parameters: list[Tensor], states: list[Tensor]) -> list[Tensor]:
        """Gradient of the loss at some parameters, with the step's dropout masks."""
        self._set(parameters)
        restore_random_states(states, self.parts.device)
        loss = batch_loss(self.parts, self.parts.network, batch)
        return list(torch.autograd.grad(loss, list(self.parts.network.parameters())))

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parts.network.parameters(), values, strict=True):
            parameter.copy_(value)


def _norm(tensors: list[Tensor]) -> float:
    """L2 norm over all of them."""
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt())
