"""The training loop: batches, losses, clipped gradients, optimizer steps, validation, checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from separation import checkpoint
from separation.clip import Attachment, ClipResult, NonFiniteGradientError
from separation.data.mixtures import Batch, DrawnMixtures
from separation.errors import InputError, check_count
from separation.features import Features, Stft, features
from separation.logs import EPOCH_COLUMNS, STEP_COLUMNS, MetricsLog
from separation.run_folder import RunFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingParts:
    """Everything that a training run holds."""

    network: nn.Module
    loss: Callable[[dict[str, Tensor], Features], Tensor]
    clipping: Attachment
    optimizer: torch.optim.Optimizer
    stft: Stft
    train: DrawnMixtures
    valid: DrawnMixtures
    device: torch.device


class Trainer:
    """Trains a network for so many steps or epochs, whichever ends first.

    Args:
        max_steps: optimizer steps, or null.
        max_epochs: epochs, or null.
        batch_size: excerpts a step.
        excerpt_frames: length of the excerpts in STFT frames.
        fold_clipping: let a fused optimizer multiply by the clipping coefficient, which saves a pass.
        progress: show a progress bar.

    Raises:
        InputError: neither limit is given, or a number is no whole number >= 1.
    """

    def __init__(
        self,
        max_steps: int | None,
        max_epochs: int | None,
        batch_size: int,
        excerpt_frames: int,
        fold_clipping: bool,
        progress: bool,
    ) -> None:
        if max_steps is None and max_epochs is None:
            raise InputError("trainer.max_steps, trainer.max_epochs: give at least one of them")
        for key, value in {"max_steps": max_steps, "max_epochs": max_epochs}.items():
            if value is not None:
                check_count(f"trainer.{key}", value)
        check_count("trainer.batch_size", batch_size, maximum=65_536)
        check_count("trainer.excerpt_frames", excerpt_frames, minimum=2, maximum=100_000)
        self.max_steps = max_steps
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.excerpt_frames = excerpt_frames
        self.fold_clipping = fold_clipping
        self.progress = progress

    def fit(self, parts: TrainingParts, folder: RunFolder) -> None:
        """Trains; writes `steps.csv`, `epochs.csv`, TensorBoard events and checkpoints to the run folder."""
        steps_per_epoch = max(1, len(parts.train) // self.batch_size)
        total = int(min(self.max_steps or math.inf, (self.max_epochs or math.inf) * steps_per_epoch))
        best_loss = math.inf
        step = epoch = 0
        start = time.perf_counter()
        with (
            closing(MetricsLog(folder.steps, STEP_COLUMNS, folder.tensorboard)) as steps_log,
            closing(MetricsLog(folder.epochs, EPOCH_COLUMNS, folder.tensorboard)) as epochs_log,
            tqdm(total=total, unit="step", disable=None if self.progress else True) as bar,
        ):
            while step < total:
                num_steps = min(steps_per_epoch, total - step)
                row = self._train_epoch(parts, epoch, range(step, step + num_steps), steps_log, bar)
                step += num_steps
                epoch += 1
                row |= {"epoch": epoch, "step": step, "valid/loss": self.validate(parts)}
                row |= {"seconds": time.perf_counter() - start}
                epochs_log.write(row)
                steps_log.flush()
                epochs_log.flush()
                if not math.isfinite(row["valid/loss"]):
                    raise InputError(
                        f"optimizer.lr: training diverged in epoch {epoch} (validation loss {row['valid/loss']});"
                        " lower it, or try clip=autoclip"
                    )
                if row["valid/loss"] < best_loss:
                    best_loss = row["valid/loss"]
                    checkpoint.save(folder.best, _state(parts, row))
                checkpoint.save(folder.last, _state(parts, row))
                log.info("%s: %s", folder.path.name, _describe(row))

    def _train_epoch(
        self, parts: TrainingParts, epoch: int, steps: range, steps_log: MetricsLog, bar: "tqdm[Any]"
    ) -> dict[str, float]:
        """One epoch's optimizer steps; returns its means and counts, the training columns of `epochs.csv`."""
        losses, counted, clipped, skipped = 0.0, 0, 0, 0
        for step, batch in zip(steps, self._batches(parts, epoch, len(steps)), strict=True):
            began = time.perf_counter()
            loss, clip = train_step(parts, batch)
            bar.set_postfix_str(f"loss {loss:.3g}, norm {clip.grad_norm:.3g}, threshold {clip.threshold:.3g}", False)
            bar.update()
            seconds = time.perf_counter() - began
            values = (step + 1, epoch, loss, clip.grad_norm, clip.threshold, clip.coefficient, seconds)
            steps_log.write(dict(zip(STEP_COLUMNS, values, strict=True)))
            clipped += clip.clipped
            skipped += not clip.should_step
            if math.isfinite(clip.grad_norm):
                losses += loss
                counted += 1
        return {
            "train/loss": losses / counted if counted else math.nan,
            "train/clipped_fraction": clipped / len(steps),
            "train/skipped_steps": skipped,
        }

    @torch.inference_mode()
    def validate(self, parts: TrainingParts) -> float:
        """Mean loss over the validation list's excerpts."""
        parts.network.eval()
        total = 0.0
        for first in range(0, len(parts.valid), self.batch_size):
            indices = range(first, min(first + self.batch_size, len(parts.valid)))
            batch = parts.valid.excerpts(indices, parts.stft.num_samples(self.excerpt_frames))
            total += float(batch_loss(parts, batch)) * len(indices)
        parts.network.train()
        return total / len(parts.valid)

    def _batches(self, parts: TrainingParts, epoch: int, num_steps: int) -> Iterator[Batch]:
        """An epoch's batches; a thread prepares the next one while the network works on this one."""
        num_samples = parts.stft.num_samples(self.excerpt_frames)

        def make(step: int) -> Batch:
            indices = range(step * self.batch_size, (step + 1) * self.batch_size)
            return parts.train.excerpts(indices, num_samples, epoch)

        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(make, 0)
            for step in range(num_steps):
                batch = future.result()
                if step + 1 < num_steps:
                    future = thread.submit(make, step + 1)
                yield batch


def batch_loss(parts: TrainingParts, batch: Batch) -> Tensor:
    """The loss of one batch, a scalar."""
    feats = features(batch.sources.to(parts.device), parts.stft)
    return parts.loss(parts.network(feats.mixture_magnitude), feats)


def train_step(parts: TrainingParts, batch: Batch) -> tuple[float, ClipResult]:
    """One optimizer step, which clips first (see `Clipper.attach`). Returns the loss and what clipping did."""
    parts.optimizer.zero_grad()
    loss = batch_loss(parts, batch)
    loss.backward()
    try:
        parts.optimizer.step()
    except NonFiniteGradientError as error:
        raise InputError(f"clip.on_nonfinite=raise: {error} (loss {loss.item():.3g})") from error
    assert parts.clipping.result is not None
    return loss.item(), parts.clipping.result


def _describe(row: dict[str, float]) -> str:
    """An epoch in a line."""
    return (
        f"epoch {row['epoch']}, step {row['step']}, train loss {row['train/loss']:.5g}, valid loss"
        f" {row['valid/loss']:.5g}, clipped {row['train/clipped_fraction']:.0%}, skipped"
        f" {row['train/skipped_steps']}, {row['seconds']:.0f} s"
    )


def _state(parts: TrainingParts, row: dict[str, float]) -> dict[str, object]:
    return {
        "step": row["step"],
        "epoch": row["epoch"],
        "valid_loss": row["valid/loss"],
        "network": parts.network.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "clipper": parts.clipping.clipper.state_dict(),
    }
