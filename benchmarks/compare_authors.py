"""Trains with AutoClip as its authors' code clips, as that would clip without its epsilon, and as it is here, from the
same parameters on the same mixtures: `python benchmarks/compare_authors.py data=fsdd data.root=FSDD [steps=300]
[model=mask_inference] [clip.p=10] [output=FILE.json]`.

Prints the range of the norms, the largest relative difference of a threshold from ours, and the distance of the final
parameters from ours over the length of the way that ours went.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from benchmark import settings, write_results
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from gradclip import ClipResult
from separation.app.assembly import build_parts, set_threads
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.runs.summaries import table
from separation.training.processes import Processes
from separation.training.step import train_step


class AuthorsAutoClip:
    """The handler of the authors' train.py. It ends in `torch.nn.utils.clip_grad_norm_`, which scales gradients by
    min(1, threshold / (norm + 1e-6))."""

    def __init__(self, p: float, epsilon: bool) -> None:
        self.p = p
        self.epsilon = epsilon
        self.norms: list[float] = []

    def observe_loss(self, loss: Tensor) -> None:
        """A training step hands it over; the handler doesn't look at it."""

    def clip_(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> ClipResult:
        parameters = [parameter for _, parameter in named_parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = sum(gradient.norm(2).item() ** 2 for gradient in gradients) ** 0.5
        self.norms.append(norm)
        threshold = float(np.percentile(self.norms, self.p))
        if self.epsilon:
            nn.utils.clip_grad_norm_(parameters, threshold)
        elif threshold < norm:
            for gradient in gradients:
                gradient /= norm / threshold  # as gradclip and fused optimizers do: a product would round otherwise
        return ClipResult(norm, threshold)


def train(config: DictConfig, steps: int, clipper: Any = None) -> tuple[list[ClipResult], Tensor, Tensor]:
    """What clipping did in each step, and all parameters in one vector, before and after.

    Args:
        clipper: in the place of the settings' own.
    """
    parts = build_parts(config, torch.device("cpu"), Processes())
    parts = dataclasses.replace(parts, clipper=clipper or parts.clipper)
    before = nn.utils.parameters_to_vector(parts.network.parameters()).detach()
    size, num_samples = config.trainer.batch_size, parts.stft.num_samples(config.trainer.excerpt_frames)
    per_epoch = max(1, len(parts.data.train) // size)
    parts.network.train()
    results = []
    for step in tqdm(range(steps), leave=False):
        epoch, position = divmod(step, per_epoch)
        indices = range(position * size, (position + 1) * size)
        results.append(train_step(parts, parts.data.train.excerpts(indices, num_samples, epoch))[1])
    return results, before, nn.utils.parameters_to_vector(parts.network.parameters()).detach()


def main() -> None:
    """Trains three times and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "compare_authors")
    config = compose_config("config", [*overrides, "clip=autoclip", "device=cpu"])
    set_threads(config)
    clips, before, after = train(config, program.steps)
    thresholds = np.array([clip.threshold for clip in clips])
    norms = [clip.grad_norm for clip in clips]
    results: dict[str, Any] = {"steps": program.steps, "smallest_norm": min(norms), "largest_norm": max(norms)}
    rows = []
    for title, epsilon in {"as published": True, "without epsilon": False}.items():
        others, _, their_after = train(config, program.steps, AuthorsAutoClip(config.clip.p, epsilon))
        ratios = np.array([clip.threshold for clip in others]) / thresholds
        difference, distance = float(np.abs(ratios - 1).max()), float((their_after - after).norm())
        way = float((after - before).norm())
        results[title] = {"threshold": difference, "parameters": distance / way, "same_bits": distance == 0}
        rows.append([title, f"{difference:.2g}", f"{distance / way:.2g}", str(distance == 0)])
    print(f"norms from {min(norms):.2g} to {max(norms):.2g}\n")
    print(table(["authors' code", "thresholds differ by", "parameters by", "same bits"], rows))
    write_results(program.output, results, config.seed)


if __name__ == "__main__":
    entry_point(main)
