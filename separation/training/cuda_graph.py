"""Training steps as one CUDA graph: the host launches them whole instead of kernel by kernel."""

from collections.abc import Callable, Sequence

import torch

from gradclip import ClipResult
from separation.data.mixtures import Batch
from separation.errors import InputError
from separation.model.networks import keep_weights_in_place
from separation.training.attached_step import AttachedStep
from separation.training.step import Taken, TrainingParts

EAGER_STEPS = 3
"""Steps before the capture, in which cuDNN, the optimizer and the clipper make what they keep."""


class GraphedStep:
    """Takes optimizer steps as `train_step` does, on batches of one shape: the first ones as they are, the others as
    replays of a captured one.

    Args:
        parts: on a GPU, with a clipper that stays there, a fused optimizer and one process.
        weight: see `train_step`.

    Raises:
        InputError: the parts can't be captured.
    """

    def __init__(self, parts: TrainingParts, weight: float) -> None:
        make_capturable(parts)
        take = AttachedStep(parts, weight)
        self._graphed = Graphed([parts], lambda batches: [take(batches[0])])

    def __call__(self, batch: Batch) -> Taken:
        """As `train_step`."""
        [taken] = self._graphed([batch])
        assert not isinstance(taken, InputError)
        return taken


def make_capturable(parts: TrainingParts) -> None:
    """Prepares a run's network and optimizer for a captured step.

    Raises:
        InputError: the parts can't be captured.
    """
    problems = {
        "device: needs a GPU": parts.device.type != "cuda",
        "clip: needs clip=autoclip_on_device clip.capturable=true": not getattr(parts.clipper, "capturable", False),
        "optimizer.fused: needs true": not all(group.get("fused") for group in parts.optimizer.param_groups),
        "trainer.precision: fp16 can't be captured, take bf16": parts.precision.scaler.is_enabled(),
        "torchrun: needs a single process": parts.processes.count > 1,
        "scheduler: needs none, a captured step keeps its learning rate": parts.schedule.scheduler is not None,
    }
    for problem in (problem for problem, is_there in problems.items() if is_there):
        raise InputError(f"trainer.cuda_graph=true: {problem}; or use trainer.cuda_graph=false")
    for group in parts.optimizer.param_groups:
        group["capturable"] = True
    keep_weights_in_place(parts.network)


class Graphed:
    """Steps of one run, or of several at once, as a graph.

    Args:
        runs: made capturable.
        take: takes a step of each run with its batch; none of it may wait for the device.
    """

    def __init__(
        self, runs: Sequence[TrainingParts], take: Callable[[Sequence[Batch]], Sequence[Taken | InputError]]
    ) -> None:
        self._device = runs[0].device
        self._optimizers = [parts.optimizer for parts in runs]
        self._take = take
        self._count = 0
        self._stream = torch.cuda.Stream(self._device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batches: list[Batch] = []
        self._taken: Sequence[Taken | InputError] = []

    def __call__(self, batches: Sequence[Batch]) -> Sequence[Taken | InputError]:
        """What `take` returns."""
        if self._count < EAGER_STEPS:
            self._count += 1
            return self._eager(batches)
        if self._graph is None:
            self._capture(batches)
            assert self._graph is not None
        for kept, batch in zip(self._batches, batches, strict=True):
            kept.sources.copy_(batch.sources, non_blocking=True)
            if kept.noise is not None:
                assert batch.noise is not None  # all of a corpus's mixtures have some, or none has
                kept.noise.copy_(batch.noise, non_blocking=True)
        self._graph.replay()
        return [_copy(taken) if isinstance(taken, tuple) else taken for taken in self._taken]

    def _eager(self, batches: Sequence[Batch]) -> Sequence[Taken | InputError]:
        """On the stream of the capture, as torch asks for."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            taken = self._take(batches)
        current.wait_stream(self._stream)
        return taken

    def _capture(self, batches: Sequence[Batch]) -> None:
        """Records a step without taking it."""
        kept = {id(batch.sources): self._kept(batch) for batch in batches}
        self._batches = [kept[id(batch.sources)] for batch in batches]  # what runs share, their copies share
        self._graph = torch.cuda.CUDAGraph()
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        try:
            # Another thread may allocate meanwhile: it prepares the next batch.
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._taken = self._take(self._batches)
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0][:200]  # ending the capture fails in turn
            raise InputError(f"trainer.cuda_graph=true: this step can't be captured ({reason}); use false") from error

    def _kept(self, batch: Batch) -> Batch:
        """A batch on the device, at a place that stays."""
        noise = None if batch.noise is None else batch.noise.to(self._device).clone()
        return batch._replace(sources=batch.sources.to(self._device).clone(), noise=noise)


def _copy(taken: Taken) -> Taken:
    """Results that the next replay doesn't overwrite."""
    loss, clip = taken
    return loss.clone(), ClipResult(*(torch.as_tensor(value).clone() for value in clip.raw))
