"""A training step as one CUDA graph: the host launches it whole instead of kernel by kernel."""

import torch
from torch import Tensor

from gradclip import ClipResult
from separation.data.mixtures import Batch
from separation.errors import InputError
from separation.model.networks import keep_weights_in_place
from separation.training.attached_step import AttachedStep
from separation.training.step import TrainingParts

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
        self.parts = parts
        self.take = AttachedStep(parts, weight)
        self.count = 0
        self.stream = torch.cuda.Stream(parts.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, ClipResult]:
        """As `train_step`."""
        if self.count < EAGER_STEPS:
            self.count += 1
            return self._eager(batch)
        if self.graph is None:
            self._capture(batch)
            assert self.graph is not None
        self.batch.sources.copy_(batch.sources, non_blocking=True)
        if self.batch.noise is not None:
            assert batch.noise is not None  # all of a corpus's mixtures have some, or none has
            self.batch.noise.copy_(batch.noise, non_blocking=True)
        self.graph.replay()
        return self.loss.clone(), ClipResult(*(torch.as_tensor(value).clone() for value in self.result.raw))

    def _eager(self, batch: Batch) -> tuple[Tensor, ClipResult]:
        """On the stream of the capture, as torch asks for."""
        current = torch.cuda.current_stream(self.parts.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            taken = self.take(batch)
        current.wait_stream(self.stream)
        return taken

    def _capture(self, batch: Batch) -> None:
        """Records a step without taking it."""
        noise = None if batch.noise is None else batch.noise.to(self.parts.device).clone()
        self.batch = batch._replace(sources=batch.sources.to(self.parts.device).clone(), noise=noise)
        self.graph = torch.cuda.CUDAGraph()
        self.parts.optimizer.zero_grad()
        try:
            # Another thread may allocate meanwhile: it prepares the next batch.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.loss, self.result = self.take(self.batch)
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0][:200]  # ending the capture fails in turn
            raise InputError(f"trainer.cuda_graph=true: this step can't be captured ({reason}); use false") from error
