"""The training loop: batches, optimizer steps, validation, checkpoints."""

import logging
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from tqdm.contrib.logging import logging_redirect_tqdm

from gradclip import ClipResult
from separation.data.mixtures import Batch
from separation.errors import InputError, check_choice, check_count, check_flag, check_number
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.training.attached_step import AttachedStep, needs_attachment
from separation.training.counters import Progress
from separation.training.cuda_graph import GraphedStep
from separation.training.dynamics_recorder import RecordedSteps
from separation.training.interruption import Interrupted, Interruption
from separation.training.recorder import Recorder
from separation.training.resume import averaged_state, capture, restore
from separation.training.step import TrainingParts, on_host, train_step
from separation.training.together.group import Member
from separation.training.trackers.tracking import Tracking
from separation.training.validation import Validation

log = logging.getLogger(__name__)
NAMED_MIXTURES = 10
MONITORS = ("loss", "si_sdr")


@dataclass(frozen=True)
class Trainer:
    """Trains a network for so many steps or epochs, whichever ends first.

    Args:
        max_steps: optimizer steps, or null.
        max_epochs: epochs, or null.
        batch_size: excerpts a step, over all processes.
        excerpt_frames: length of the excerpts in STFT frames.
        precision: of the network's computations (see `Precision`).
        store_on_device: keep the corpus's samples where the network is, and mix there.
        cuda_graph: replay a captured step (see `GraphedStep`).
        num_scored: of so many validation mixtures the SI-SDR is taken after every epoch.
        log_steps: losses and norms are read from the device and written every so many steps.
        dynamics_steps: step size and local smoothness are recorded every so many steps (see `RecordedSteps`); or null.
        max_skipped: so many steps in a row whose loss or gradients are NaN or infinite end the run.
        monitor: which validation is best: the lowest `loss` or the highest `si_sdr`; for best.pt, patience, plateaus.
        patience: the run ends after so many epochs without a better one; or null.
        accumulate: a batch is processed in so many parts, one after another: the same step in less memory.
        ema: decay, per step, of the moving average of the weights that is validated and saved beside them; or null.
        resume: go on with the run that the folder holds, if there is one.
        checkpoint_steps, checkpoint_minutes: write a checkpoint at least so often (and after every epoch); or null.
        progress: show a progress bar.

    Raises:
        InputError: neither limit is given, or a value is none that its key takes.
    """

    max_steps: int | None
    max_epochs: int | None
    batch_size: int
    excerpt_frames: int
    precision: str
    store_on_device: bool
    cuda_graph: bool
    num_scored: int
    log_steps: int
    dynamics_steps: int | None
    max_skipped: int
    monitor: str
    patience: int | None
    accumulate: int
    ema: float | None
    resume: bool
    checkpoint_steps: int | None
    checkpoint_minutes: float | None
    progress: bool

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_epochs is None:
            raise InputError("trainer.max_steps, trainer.max_epochs: give at least one of them")
        for key in ("max_steps", "max_epochs", "dynamics_steps", "checkpoint_steps", "patience"):
            if getattr(self, key) is not None:
                check_count(f"trainer.{key}", getattr(self, key))
        if self.checkpoint_minutes is not None:
            check_number("trainer.checkpoint_minutes", self.checkpoint_minutes, 0.01, 1e6)
        check_count("trainer.batch_size", self.batch_size, maximum=65_536)
        check_count("trainer.excerpt_frames", self.excerpt_frames, minimum=2, maximum=100_000)
        check_count("trainer.num_scored", self.num_scored, minimum=0)
        check_count("trainer.log_steps", self.log_steps)
        check_count("trainer.max_skipped", self.max_skipped)
        check_choice("trainer.monitor", self.monitor, MONITORS)
        if self.monitor == "si_sdr" and self.num_scored == 0:
            raise InputError("trainer.monitor=si_sdr: trainer.num_scored=0 takes none; give the number of mixtures")
        check_count("trainer.accumulate", self.accumulate, maximum=self.batch_size)
        if self.ema is not None:
            check_number("trainer.ema", self.ema, 0, 1 - 1e-9)
        for key in ("store_on_device", "cuda_graph", "resume", "progress"):
            check_flag(f"trainer.{key}", getattr(self, key))

    def num_steps(self, num_mixtures: int) -> tuple[int, int]:
        """Steps of an epoch of so many mixtures, and of the whole training."""
        epoch = max(1, num_mixtures // self.batch_size)
        return epoch, int(min(self.max_steps or math.inf, (self.max_epochs or math.inf) * epoch))

    def fit(
        self,
        parts: TrainingParts,
        folder: RunFolder,
        interruption: Interruption,
        tracking: Tracking | None = None,
        member: Member | None = None,
    ) -> bool:
        """Trains; writes `steps.csv`, `epochs.csv` and checkpoints to the run folder, and what the main process's
        tracker, if it has one, keeps. A member of a group takes its steps with the others.

        Returns:
            Whether there was anything left to do.

        Raises:
            InputError: training diverges, or the folder can't be written or resumed.
            Interrupted: a signal came; the checkpoint is written.
        """
        if self.store_on_device:
            parts.data.train.store.to_device(parts.device)
        progress = restore(parts, folder.last) if self.resume and folder.last.is_file() else Progress()
        run = _Run(self, parts, folder, progress, member)
        if progress.validated >= run.total or run.has_stopped_early():
            return False
        run.reopen_epoch()
        if parts.processes.is_main:
            run.recorder = Recorder(
                folder, progress.step, progress.validated, run.total, self.progress, self.ema is not None, tracking
            )
            folder.summary.unlink(missing_ok=True)  # until the longer run is scored, there is none
        lines_above_bar = logging_redirect_tqdm() if self.progress else nullcontext()
        with closing(run.recorder) if run.recorder else nullcontext(), interruption.deferred(), lines_above_bar:
            run.train(interruption)
        return True


class _Run:
    """One call of `Trainer.fit`."""

    def __init__(
        self, settings: Trainer, parts: TrainingParts, folder: RunFolder, progress: Progress, member: Member | None
    ) -> None:
        self.settings = settings
        self.parts = parts
        self.folder = folder
        self.progress = progress
        self.recorder: Recorder | None = None  # of the main process
        self.steps_per_epoch, self.total = settings.num_steps(len(parts.data.train))
        self.num_samples = parts.stft.num_samples(settings.excerpt_frames)
        self.validation = Validation(parts, settings.batch_size, self.num_samples, settings.num_scored)
        weight = parts.processes.mean_weight(settings.batch_size)
        self.take: Callable[[Batch], tuple[Tensor, ClipResult]] = partial(train_step, parts, weight=weight)
        if member is not None:
            self.take = member.steps_of(parts)
        elif settings.cuda_graph:
            self.take = GraphedStep(parts, weight)
        elif needs_attachment(parts):
            self.take = AttachedStep(parts, weight)
        if settings.dynamics_steps is not None:
            self.take = RecordedSteps(self.take, parts, folder.dynamics, settings.dynamics_steps, progress.step)
        self.start = time.perf_counter() - progress.seconds
        self.last_saved = time.monotonic()

    def reopen_epoch(self) -> None:
        """Where an ended run is prolonged, its last epoch may have been validated before its end."""
        self.progress.validated = min(
            self.progress.validated, self.progress.step - self.progress.step % self.steps_per_epoch
        )

    def train(self, interruption: Interruption) -> None:
        progress = self.progress
        with closing(self._batches()) as batches:
            while True:
                if self._is_epochs_end() and progress.validated < progress.step:
                    self._end_epoch()
                if progress.step >= self.total or self.has_stopped_early():
                    return
                number, due = self._steps(batches, interruption)
                if number or (due and not progress.faulty_steps):  # a good one stays while faults last
                    self._save()
                if number:
                    raise Interrupted(number, f" at step {progress.step} of {self.total}")

    def _is_epochs_end(self) -> bool:
        return self.progress.step % self.steps_per_epoch == 0 or self.progress.step == self.total

    def has_stopped_early(self) -> bool:
        """Whether validation hasn't got better for too long."""
        patience = self.settings.patience
        return patience is not None and self.progress.stale_epochs >= patience

    def _steps_to_reading(self) -> int:
        """How many steps are taken before the host reads of them: up to the next thing to do."""
        step = self.progress.step
        periods = [self.settings.log_steps, self.steps_per_epoch, self.settings.checkpoint_steps or self.total]
        return min(self.total - step, *(period - step % period for period in periods))

    def _steps(self, batches: Iterator[Batch], interruption: Interruption) -> tuple[int, bool]:
        """Takes steps, then reads their losses and norms, counts and records them. Returns the signal that asks for an
        end, if any, and whether it is time for a checkpoint: the same in all processes."""
        began = time.perf_counter()
        taken = [(*self._step(batch), batch.names) for batch in islice(batches, self._steps_to_reading())]
        losses = torch.stack([loss for loss, _, _ in taken]).double().cpu() / self.parts.processes.count
        asked = torch.tensor([interruption.asked() > 0, self._is_due(self.progress.step + len(taken))])
        *values, stop, due = self.parts.processes.sum(torch.cat([losses, asked.double()])).tolist()
        clips = on_host([clip for _, clip, _ in taken])
        seconds = (time.perf_counter() - began) / len(taken)
        scaler = self.parts.precision.scaler
        for value, clip, (_, _, names) in zip(values, clips, taken, strict=True):
            overflow = scaler.is_enabled() and math.isfinite(value) and scaler.get_scale() >= 1  # its own business
            self.progress.count(value, clip, [] if overflow else list(names))
            self.progress.seconds = time.perf_counter() - self.start
            if self.recorder:
                self.recorder.step(
                    {
                        "step": self.progress.step,
                        "epoch": (self.progress.step - 1) // self.steps_per_epoch,
                        "train/loss": value,
                        "train/grad_norm": clip.grad_norm,
                        "train/clip_threshold": clip.threshold,
                        "train/clip_coefficient": clip.coefficient,
                        "train/seconds": seconds,
                    }
                )
            if self.progress.faulty_steps:
                self._report_fault(value, clip.grad_norm)
        return (interruption.number or signal.SIGTERM) if stop else 0, due > 0

    def _step(self, batch: Batch) -> tuple[Tensor, ClipResult]:
        """An optimizer step, and what follows each."""
        taken = self.take(batch)
        self.parts.schedule.after_step()
        if self.parts.averaged is not None:
            self.parts.averaged.update_parameters(self.parts.network)
        return taken

    def _is_due(self, step: int) -> bool:
        """Whether this process, if it is the main one, wants a checkpoint after a step."""
        steps, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        by_steps = steps is not None and step % steps == 0
        by_time = minutes is not None and time.monotonic() - self.last_saved >= 60 * minutes
        return self.parts.processes.is_main and (by_steps or by_time)

    def _report_fault(self, loss: float, norm: float) -> None:
        progress, limit = self.progress, self.settings.max_skipped
        log.warning("step %d left out: loss %g, gradient norm %g", progress.step, loss, norm)
        if progress.faulty_steps < limit:
            return
        names = [name for faults in self.parts.processes.gather(progress.faults) for name in faults]
        shown = ", ".join(names[:NAMED_MIXTURES]) + (", ..." if len(names) > NAMED_MIXTURES else "")
        advice = "Look at those, or lower optimizer.lr"
        if progress.step == progress.faulty_steps:  # the weights are those of the seed
            advice = "No step was good: look at the network's or the loss's code, the units (loss_scale), or those"
        good = f"the last good checkpoint is {self.folder.last}" if self.folder.last.is_file() else "no checkpoint yet"
        raise InputError(
            f"trainer.max_skipped={limit}: as many steps in a row, up to step {progress.step}, had a loss or gradients"
            f" that are NaN or infinite; {good}. Their mixtures: {shown}. {advice}"
        )

    def _end_epoch(self) -> None:
        """Validates and writes the checkpoints."""
        progress, parts = self.progress, self.parts
        is_whole = progress.step % self.steps_per_epoch == 0
        num_steps = self.steps_per_epoch if is_whole else progress.step % self.steps_per_epoch
        row: dict[str, float] = {"epoch": -(-progress.step // self.steps_per_epoch), "step": progress.step}
        row |= {**progress.epoch_row(num_steps), "train/learning_rate": float(parts.optimizer.param_groups[0]["lr"])}
        row |= self._validate(parts.network, "valid/")
        if parts.averaged is not None:
            row |= self._validate(parts.averaged.module, "valid/averaged_")
        row["seconds"] = time.perf_counter() - self.start
        if self.recorder:
            self.recorder.epoch(row)
            self.recorder.show(progress.step, partial(self.validation.examples, parts.network))
        self._check_validation(row)
        loss, averaged_loss = self._monitored(row, "valid/"), self._monitored(row, "valid/averaged_")
        is_best, is_best_average = loss < progress.best_loss, averaged_loss < progress.best_averaged_loss
        progress.best_loss = loss if is_best else progress.best_loss
        progress.best_averaged_loss = averaged_loss if is_best_average else progress.best_averaged_loss
        if is_whole:
            progress.begin_epoch()
            progress.stale_epochs = 0 if is_best or is_best_average else progress.stale_epochs + 1
            parts.schedule.after_epoch(loss)
        progress.validated = progress.step
        self._save(is_best, is_best_average)
        log.info("%s%s", self.recorder.label if self.recorder else "", self._describe(row, is_best))
        if self.has_stopped_early():
            log.info(
                "trainer.patience=%d: ends at step %d of %d, after as many epochs without a better validation",
                *(self.settings.patience, progress.step, self.total),
            )

    def _describe(self, row: Mapping[str, float], is_best: bool) -> str:
        """An epoch in a line of some 80 columns; what is usual goes without saying."""
        monitor = self.settings.monitor
        best_so_far = self.progress.best_loss if monitor == "loss" else -self.progress.best_loss
        best = "best" if is_best else f"best {best_so_far:.3g}"
        marks = {name: f" ({best})" if name == monitor else "" for name in MONITORS}
        parts = [
            f"loss {row['train/loss']:.3g}",
            f"valid {row['valid/loss']:.3g}{marks['loss']}",
        ]
        if not math.isnan(row["valid/si_sdr"]):
            parts.append(f"{row['valid/si_sdr']:.2f} dB{marks['si_sdr']}")
        if "valid/averaged_si_sdr" in row:
            parts.append(f"averaged {row['valid/averaged_si_sdr']:.2f} dB")
        if row["train/clipped_fraction"]:
            parts.append(f"clip {row['train/clipped_fraction']:.0%}")
        if row["train/skipped_steps"]:
            parts.append(f"{row['train/skipped_steps']} steps left out")
        return f"epoch {row['epoch']}: {row['seconds']:.0f} s, {', '.join(parts)}"

    def _validate(self, network: nn.Module, prefix: str) -> dict[str, float]:
        loss = self.validation.loss(network)
        return {
            f"{prefix}loss": loss,
            f"{prefix}si_sdr": self.validation.si_sdr(network) if math.isfinite(loss) else math.nan,
        }

    def _monitored(self, row: Mapping[str, float], prefix: str) -> float:
        """What is best where it is lowest; infinite where there is none."""
        value = row.get(f"{prefix}{self.settings.monitor}")
        if value is None:
            return math.inf
        return value if self.settings.monitor == "loss" else -value

    def _check_validation(self, row: Mapping[str, float]) -> None:
        """Raises InputError where an epoch's validation has no value to go on with."""
        if math.isfinite(row["valid/loss"]) and not math.isnan(self._monitored(row, "valid/")):
            return
        if self.recorder:
            self.recorder.sync()
        if not math.isfinite(row["valid/loss"]):
            raise InputError(
                f"optimizer.lr: training diverged in epoch {row['epoch']} (validation loss {row['valid/loss']}); lower"
                " it, or try clip=autoclip"
            )
        raise InputError(
            f"trainer.monitor=si_sdr: no validation mixture could be scored in epoch {row['epoch']}; take"
            " trainer.monitor=loss"
        )

    def _save(self, is_best: bool = False, is_best_average: bool = False) -> None:
        """Writes `last.pt`, after the rows up to it, and `best.pt` and `averaged.pt` if they are the best."""
        self.progress.seconds = time.perf_counter() - self.start
        state = capture(self.parts, self.progress)
        if self.recorder:
            self.recorder.sync()
            if is_best:
                checkpoint.save(self.folder.best, state)
            if is_best_average:
                checkpoint.save(self.folder.averaged, averaged_state(state))
            checkpoint.save(self.folder.last, state)
        self.last_saved = time.monotonic()

    def _batches(self) -> Generator[Batch]:
        """This process's parts of the batches to come; a thread prepares the next one while the network works."""
        size = self.settings.batch_size

        def make(step: int) -> Batch:
            epoch, position = divmod(step, self.steps_per_epoch)
            indices = self.parts.processes.part(range(position * size, (position + 1) * size))
            batch = self.parts.data.train.excerpts(indices, self.num_samples, epoch)
            return batch.pinned() if self.parts.device.type == "cuda" != batch.sources.device.type else batch

        with ThreadPoolExecutor(1) as thread:
            future = thread.submit(make, self.progress.step)
            for step in range(self.progress.step + 1, self.total + 1):
                batch = future.result()
                if step < self.total:
                    future = thread.submit(make, step)
                yield batch
