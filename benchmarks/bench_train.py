"""What a training step costs beside its network: `python benchmarks/bench_train.py [experiment=paper] [threads=1]
[models=[chimera]] [trainer.batch_size=4] [device=cuda] [output=FILE.json]`.

For each model, alternating in one process: the network's bare step (forward, backward of a sum, Adam's step on a
ready batch), and the whole step (features from waveforms, network, loss, backward, clipping, Adam, reading the loss).
Medians. On a GPU, also: clipping there instead of on the host, the step as a CUDA graph, TF32 and bfloat16; and how
much of the time the GPU works.
"""

from collections.abc import Callable
from typing import Any

import torch
from benchmark import alternating, seconds, settings, write_results
from omegaconf import DictConfig
from torch import nn

from separation.app.assembly import build, set_threads
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.data.mixtures import Batch
from separation.model.features import features
from separation.model.networks import num_parameters
from separation.runs.summaries import table
from separation.training.attached_step import AttachedStep, needs_attachment
from separation.training.cuda_graph import EAGER_STEPS, GraphedStep
from separation.training.devices import Precision, pick_device
from separation.training.step import TrainingParts, train_step

ON_GPU = ["clip=autoclip_on_device"]
VARIANTS: dict[str, list[str]] = {"": []}
GPU_VARIANTS = {
    **VARIANTS,
    "clipping on the GPU": ON_GPU,
    "CUDA graph": [*ON_GPU, "trainer.cuda_graph=true"],
    "CUDA graph, TF32": [*ON_GPU, "trainer.cuda_graph=true", "trainer.precision=tf32"],
    "CUDA graph, bfloat16": [*ON_GPU, "trainer.cuda_graph=true", "trainer.precision=bf16"],
}


def parts_on_noise(config: DictConfig, seed: int = 0) -> tuple[TrainingParts, Batch]:
    """What a run holds, and a batch of noise for it instead of a corpus."""
    device = pick_device(config.device)
    torch.manual_seed(seed)
    network: nn.Module = build(config, "model.network").to(device)
    stft = build(config, "stft")
    num_samples = stft.num_samples(config.trainer.excerpt_frames)
    sources = 0.05 * torch.randn(config.trainer.batch_size, config.mixing.num_sources, num_samples)
    parts = TrainingParts(
        network=network,
        loss=build(config, "model.loss"),
        separator=build(config, "model.separator"),
        clipper=build(config, "clip"),
        optimizer=build(config, "optimizer", params=network.parameters()),
        stft=stft,
        data=None,  # type: ignore[arg-type]
        device=device,
        precision=Precision(config.trainer.precision, device),
    )
    return parts, Batch(sources.to(device), torch.full((len(sources),), num_samples), ())


class Step:
    """A model's training step, and its network's, on a batch of noise."""

    def __init__(self, model: str, overrides: list[str]) -> None:
        config = compose_config("config", [*overrides, f"model={model}"])
        set_threads(config)
        self.config = config
        self.parts, self.batch = parts_on_noise(config)
        self.device, self.network = self.parts.device, self.parts.network
        self.mixture = features(self.batch.sources, self.parts.stft).mixture
        self.plain = build(config, "optimizer", params=self.network.parameters())
        self.take: Callable[[Batch], Any] = lambda batch: train_step(self.parts, batch)
        if config.trainer.cuda_graph:
            self.take = GraphedStep(self.parts, 1.0)
        elif needs_attachment(self.parts):
            self.take = AttachedStep(self.parts)
        if config.trainer.cuda_graph:
            for _ in range(EAGER_STEPS + 1):
                self.take(self.batch)

    def bare(self) -> None:
        """The network alone: forward, backward, Adam."""
        self.plain.zero_grad()
        outputs = self.parts.precision(self.network, self.mixture)
        torch.stack([output.sum() for output in outputs.values()]).sum().backward()
        self.plain.step()

    def whole(self) -> None:
        """The step as the training loop takes it, the loss's reading included."""
        float(self.take(self.batch)[0])


def gpu_share(step: Step, repetitions: int) -> float:
    """How much of the whole step's time the GPU computes."""

    def steps() -> None:
        for _ in range(repetitions):
            step.whole()

    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        elapsed = seconds(steps, step.device)
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / elapsed


def measure(model: str, overrides: list[str], repetitions: int) -> dict[str, Any]:
    """Medians of both steps of one model, in seconds."""
    step = Step(model, overrides)
    bare, whole = alternating([step.bare, step.whole], repetitions, model, step.device)
    results = {
        "parameters": num_parameters(step.network),
        "batch": f"{len(step.batch.sources)} x {step.config.trainer.excerpt_frames} frames",
        "bare": bare,
        "whole": whole,
        "ratio": whole / bare,
        "mixtures_a_second": len(step.batch.sources) / whole,
    }
    if step.device.type == "cuda":
        results["gpu_share"] = gpu_share(step, repetitions)
    return results


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "bench_train")
    device = pick_device(compose_config("config", overrides).device)
    variants = VARIANTS if device.type == "cpu" else GPU_VARIANTS
    results = {
        f"{model}, {variant}" if variant else model: measure(model, [*overrides, *extra], program.repetitions)
        for model in program.models
        for variant, extra in variants.items()
    }
    rows = [
        [
            name,
            row["batch"],
            f"{1e3 * row['bare']:.1f}",
            f"{1e3 * row['whole']:.1f}",
            f"{row['ratio']:.3f}",
            f"{row['mixtures_a_second']:.1f}",
            f"{row['gpu_share']:.0%}" if "gpu_share" in row else "-",
        ]
        for name, row in results.items()
    ]
    header = ["model", "batch", "bare network [ms]", "whole step [ms]", "ratio", "mixtures a second", "GPU at work"]
    print(table(header, rows))
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
