"""What clipping strategies cost: `python benchmarks/bench_strategies.py [strategies=[autoclip,zclip]]
[repetitions=101] [output=FILE.json]`, and a run's settings, as in `model.hidden_size=600 model.num_layers=4`.

In turns of random order in one process, medians: every strategy's `clip_` on the network's gradients, scaled anew each
time so that half of them are above a threshold of 1; and the training step without clipping. And what a strategy
remembers: bytes of its state after 130 steps, and how many each further step adds.
"""

from statistics import median
from typing import Any

import numpy as np
import torch
from bench_train import Step
from benchmark import seconds, settings, write_results
from torch import Tensor
from tqdm import tqdm

from separation.app.assembly import build
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.model.networks import num_parameters
from separation.runs.summaries import table

NEEDED = {
    "fixed": ["clip.max_norm=1.0"],
    "value": ["clip.max_value=0.01"],
    "error_feedback": ["clip.max_norm=1.0", "clip.max_error_norm=1.0"],
    "skip_above": ["clip.max_norm=1.0"],
}
"""Settings without a default."""
WARM_UP = 130
"""Steps after which windows and warm-ups are full."""


class Bench:
    """A network's gradients, and strategies that clip them in turn."""

    def __init__(self, strategies: list[str], overrides: list[str]) -> None:
        self.step = Step("mask_inference", ["threads=1", *overrides, "clip=none"])
        self.step.whole()
        self.named = list(self.step.network.named_parameters())
        gradients = [parameter.grad.clone() for _, parameter in self.named if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.gradients = [gradient / norm for gradient in gradients]
        configs = {name: compose_config("config", [f"clip={name}", *NEEDED.get(name, [])]) for name in strategies}
        self.clippers = {name: build(config, "clip") for name, config in configs.items()}
        self.sizes: dict[str, list[int]] = {name: [] for name in strategies}
        self.random = np.random.default_rng(0)

    def clip(self, name: str, scale: float) -> float:
        """Seconds of one clipping of gradients with this norm."""
        for (_, parameter), gradient in zip(self.named, self.gradients, strict=True):
            assert parameter.grad is not None
            torch.mul(gradient, scale, out=parameter.grad)
        self.clippers[name].observe_loss(scale)
        elapsed = seconds(lambda: self.clippers[name].clip_(self.named), self.step.device)
        self.sizes[name].append(num_bytes(self.clippers[name].state_dict()))
        return elapsed

    def measure(self, repetitions: int) -> dict[str, dict[str, float]]:
        """By strategy: seconds, bytes remembered, bytes that a step adds."""
        times: dict[str, list[float]] = {name: [] for name in self.clippers}
        for _ in tqdm(range(repetitions + WARM_UP), desc="clip_", leave=False):
            scale = float(self.random.lognormal(0, 0.5))
            for name in self.random.permutation(list(times)):
                times[name].append(self.clip(name, scale))
        return {
            name: {
                "seconds": median(seconds_each[WARM_UP:]),
                "bytes": self.sizes[name][WARM_UP - 1],
                "bytes_a_step": (self.sizes[name][-1] - self.sizes[name][WARM_UP - 1]) / repetitions,
            }
            for name, seconds_each in times.items()
        }


def num_bytes(state: Any) -> int:
    """What all numbers in a state dict take."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, dict | list | tuple):
        return sum(map(num_bytes, state.values() if isinstance(state, dict) else state))
    return 8 if isinstance(state, int | float) else 0


def results_text(results: dict[str, Any]) -> str:
    """The results as a table."""
    strategies, step = results["strategies"], results["step"]
    norm = strategies.get("none", {}).get("seconds")
    rows = [
        [
            name,
            f"{1e3 * row['seconds']:.2f}",
            f"{row['seconds'] / norm:.2f}" if norm else "",
            f"{row['seconds'] / step:.2%}",
            f"{row['bytes'] / 1e3:,.1f}",
            f"{row['bytes_a_step']:.0f}",
        ]
        for name, row in strategies.items()
    ]
    header = ["strategy", "clip_ [ms]", "/ none", "of a step", "state [kB]", "grows a step by [bytes]"]
    return table(header, rows) + (
        f"\n{results['parameters']:,} parameters ({4e-6 * results['parameters']:.1f} MB), batch {results['batch']},"
        f" {1e3 * step:.0f} ms a step without clipping"
    )


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "bench_strategies")
    bench = Bench(list(program.strategies), overrides)
    strategies = bench.measure(program.repetitions)
    for parameter in bench.step.network.parameters():
        parameter.grad = None
    steps = [
        seconds(bench.step.whole, bench.step.device) for _ in tqdm(range(min(program.repetitions, 11)), leave=False)
    ]
    results = {
        "parameters": num_parameters(bench.step.network),
        "batch": f"{len(bench.step.batch.sources)} x {bench.step.config.trainer.excerpt_frames} frames",
        "step": median(steps),
        "strategies": strategies,
    }
    print(results_text(results))
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
