"""What clipping costs: `python benchmarks/bench_clip.py [OUTPUT.json] [--quick]`.

Measures, alternating in one process on one thread, medians: AutoClip's percentile against `np.percentile` on a list;
AutoClip's whole `clip_` against the published implementation's way (an `.item()` for each tensor, `np.percentile` on
a list, `clip_grad_norm_`) on the paper's network, 4 bidirectional LSTM layers of 600 units; and the share of `clip_` in
that network's training step. --quick takes fewer repetitions and a shorter batch: it shows that the script works.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import seconds, write_results
from torch import nn
from tqdm import tqdm

from gradclip import AutoClip
from gradclip.percentile import StreamingPercentile
from separation.app.command import entry_point
from separation.errors import InputError
from separation.model.networks import mask_inference, num_parameters
from separation.runs.summaries import table

PERCENTILE_TARGETS = {(10**5, None): 300, (10**6, None): 500, (10**5, 10_000): 100}
CLIP_TARGETS = {
    (10, "clips"): 0.75,
    (10, "doesn't clip"): 0.4,
    (10, "folded"): 0.55,
    (10**5, "clips"): 0.6,
    (10**5, "doesn't clip"): 0.3,
    (10**5, "folded"): 0.45,
}


def measure_percentile(size: int, window: int | None, repetitions: int) -> dict[str, Any]:
    """Seconds to add one norm to a history of `size` and read the 10th percentile, in both ways."""
    random = np.random.default_rng(0)
    values = random.lognormal(0, 1, size).tolist()
    history = StreamingPercentile(window, values)
    if window is not None:
        values = values[-window:]
    upcoming = iter(random.lognormal(0, 1, 400 * repetitions).tolist())

    def ours() -> None:
        for _ in range(200):
            history.add(next(upcoming))
            history.percentile(10)

    def theirs() -> None:
        values.append(next(upcoming))
        if window is not None:
            del values[0]
        np.percentile(values, 10)

    times = [(seconds(ours) / 200, seconds(theirs)) for _ in range(repetitions)]
    streaming, numpy = (statistics.median(column) for column in zip(*times, strict=True))
    return {"history": size, "window": window, "streaming": streaming, "numpy": numpy, "ratio": numpy / streaming}


class PublishedWay:
    """AutoClip as its authors' code computes it."""

    def __init__(self, p: float, norms: list[float]) -> None:
        self.p = p
        self.norms = norms

    def clip_(self, parameters: list[nn.Parameter]) -> None:
        squares = 0.0
        for parameter in parameters:
            assert parameter.grad is not None
            squares += parameter.grad.data.norm(2).item() ** 2
        self.norms.append(squares**0.5)
        nn.utils.clip_grad_norm_(parameters, float(np.percentile(self.norms, self.p)))


def autoclip(p: float, norms: list[float]) -> AutoClip:
    """An AutoClip that has seen these norms."""
    clipper = AutoClip(p)
    clipper.load_state_dict({**clipper.state_dict(), "history": {"all": torch.tensor(norms, dtype=torch.float64)}})
    return clipper


def measure_clip(network: nn.Module, size: int, repetitions: int) -> list[dict[str, Any]]:
    """Seconds of a whole clipping at a history of `size`, in every way."""
    parameters = list(network.parameters())
    gradients = [torch.randn_like(parameter) for parameter in parameters]
    norm = float(torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients])))
    norms = (norm * np.random.default_rng(0).uniform(0.5, 2, size)).tolist()
    optimizer = torch.optim.Adam(parameters, lr=1e-6, fused=True)
    published = PublishedWay(0, list(norms))
    clips, passes = autoclip(0, norms), autoclip(100, norms)

    def restored(function: Callable[[], object]) -> float:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            parameter.grad.copy_(gradient)
        return seconds(function)

    def attached_step() -> float:
        attachment = clips.attach(optimizer)
        elapsed = restored(optimizer.step)
        attachment.remove()
        return elapsed

    times: list[tuple[float, ...]] = []
    for _ in tqdm(range(repetitions), desc=f"clip_, history {size}", leave=False):
        theirs = restored(lambda: published.clip_(parameters))
        ours = restored(lambda: clips.clip_(parameters)), restored(lambda: passes.clip_(parameters))
        times.append((theirs, *ours, attached_step() - restored(optimizer.step)))
    published_time, *medians = (statistics.median(column) for column in zip(*times, strict=True))
    return [
        {"history": size, "case": case, "ours": value, "published": published_time, "ratio": value / published_time}
        for case, value in zip(("clips", "doesn't clip", "folded"), medians, strict=True)
    ]


def measure_step(network: nn.Module, batch_size: int, frames: int, repetitions: int) -> dict[str, Any]:
    """Seconds of the bare network's training step, and of `clip_` in it."""
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    clipper = AutoClip(10)
    magnitude = torch.rand(batch_size, frames, 129)

    def step() -> None:
        optimizer.zero_grad()
        network(magnitude)["mask"].square().mean().backward()

    times = []
    for _ in tqdm(range(repetitions), desc="training step", leave=False):
        backward = seconds(step)
        clip = seconds(lambda: clipper.clip_(network.parameters()))
        times.append((backward + seconds(optimizer.step), clip))
    bare, clip = (statistics.median(column) for column in zip(*times, strict=True))
    return {"batch": f"{batch_size} x {frames} frames", "step": bare, "clip": clip, "ratio": clip / bare}


def results_text(results: dict[str, Any]) -> str:
    """The results as tables."""
    percentile = [
        [
            f"{row['history']:,}" + (f", window {row['window']:,}" if row["window"] else ""),
            f"{1e6 * row['streaming']:.2f}",
            f"{1e6 * row['numpy']:.0f}",
            f"{row['ratio']:.0f}",
            str(PERCENTILE_TARGETS.get((row["history"], row["window"]), "")),
        ]
        for row in results["percentile"]
    ]
    clip = [
        [
            f"{row['history']:,}, {row['case']}",
            f"{1e3 * row['ours']:.2f}",
            f"{1e3 * row['published']:.2f}",
            f"{row['ratio']:.2f}",
            f"{CLIP_TARGETS[row['history'], row['case']]:.2f}",
        ]
        for row in results["clip"]
    ]
    step = results["step"]
    return "\n\n".join(
        [
            table(["history", "streaming [us]", "np.percentile [us]", "times faster", "aim: at least"], percentile),
            f"from 1,000 to 1,000,000 norms: {results['growth']:.1f} times the cost (aim: at most 10)",
            table(["history, case", "clip_ [ms]", "published [ms]", "ratio", "aim: at most"], clip),
            f"training step, {step['batch']}: {step['step']:.2f} s, of which clip_ {1e3 * step['clip']:.1f} ms:"
            f" {step['ratio']:.2%} (aim: at most 1%)",
        ]
    )


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    quick = "--quick" in arguments
    outputs = [Path(argument) for argument in arguments if argument != "--quick"]
    if len(outputs) > 1 or any(output.suffix != ".json" for output in outputs):
        raise InputError(f"{' '.join(arguments)}: expected [OUTPUT.json] [--quick]; --help says more")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = mask_inference(256, 600, 4, 0.0, 2, "sigmoid")
    repetitions = 3 if quick else 101
    cases: list[tuple[int, int | None]] = [(10**3, None), (10**4, None), (10**5, None), (10**6, None), (10**5, 10_000)]
    percentile = [
        measure_percentile(size, window, repetitions) for size, window in tqdm(cases, desc="percentile", leave=False)
    ]
    results = {
        "parameters": num_parameters(network),
        "percentile": percentile,
        "growth": percentile[3]["streaming"] / percentile[0]["streaming"],
        "clip": [row for size in (10, 10**5) for row in measure_clip(network, size, repetitions)],
        "step": measure_step(network, *((2, 50) if quick else (25, 400)), 2 if quick else 3),
    }
    print(results_text(results))
    if outputs:
        write_results(outputs[0], results)
        print(f"\n{outputs[0]}")


if __name__ == "__main__":
    entry_point(main)
