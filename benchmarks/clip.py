"""What clipping costs: `python benchmarks/clip.py [--output=FILE.json] [--device=cuda] [--quick]`.

Beside `clip_grad_norm_`, in turns of random order in one process, on one thread, medians: AutoClip in its forms, its
authors' code and other packages (where they are installed: pip install smartclip autoclip zclip) on the paper's
network, 4 bidirectional LSTM layers of 600 units, and on 1,000 small tensors, with histories of 1,000 and 1,000,000
norms, where all of them clip and where none does. Then AutoClip's percentile alone, what it adds to a fused optimizer's
step, its part of the network's training step, and its state. --quick takes fewer repetitions, shorter histories and
smaller networks: it shows that the script works.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import seconds, write_results
from clip_ways import BASE, missing, published, ways, with_history
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from gradclip import AutoClip
from gradclip.percentile import StreamingPercentile
from separation.app.command import entry_point
from separation.errors import InputError
from separation.model.features import Mixture
from separation.model.networks import mask_inference, num_parameters
from separation.runs.summaries import table

PAPER, SMALL = "30 M parameters", "1,000 small tensors"
AIMS = {
    (PAPER, "AutoClip", True): 1.0,
    (PAPER, "AutoClip", False): 0.6,
    (SMALL, "AutoClip", True): 1.1,
    (SMALL, "AutoClip", False): 1.1,
}
"""At most so many times what `clip_grad_norm_` takes; on a CPU."""
GPU_AIMS = {(PAPER, "AutoClipOnDevice", clips): 0.5 / 0.35 for clips in (True, False)}
STATE_AIMS = {"state_dict": 0.020, "load_state_dict": 0.060}
SLOW = 0.05
"""In seconds: what takes longer has few repetitions."""


class Operations(TorchDispatchMode):
    """Counts the operations that run; on a GPU, each is launched by itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


class Gradients:
    """A network with gradients that can be put back."""

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name = name
        self.network = network
        self.parameters = list(network.parameters())
        self.values = [torch.randn_like(parameter) for parameter in self.parameters]
        self.norm = float(nn.utils.get_total_norm(self.values))
        self.device = self.parameters[0].device

    def norms(self, count: int) -> list[float]:
        """A history in which the gradient's norm is neither the smallest nor the largest."""
        return (self.norm * np.random.default_rng(0).uniform(0.5, 2, count)).tolist()

    def restored(self, function: Callable[[], object]) -> float:
        """Seconds that it takes with the gradients as they were at first."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.grad = value.clone() if parameter.grad is None else parameter.grad.copy_(value)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return seconds(function, self.device)


def measure(gradients: Gradients, history: int, clips: bool, repetitions: int) -> list[dict[str, Any]]:
    """A row for each way: its median time, and the median of its ratios to `clip_grad_norm_` in the same turn."""
    norms = gradients.norms(history)
    functions = {name: way(gradients.network, norms, clips) for name, way in ways().items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    operations = {}
    for name, function in functions.items():
        gradients.restored(function)
        with Operations() as counted:
            gradients.restored(function)
        operations[name] = counted.count - len(gradients.parameters)  # less what puts the gradients back
    order = np.random.default_rng(0)
    for turn in tqdm(range(repetitions + 1), desc=f"{len(norms):,} norms", leave=False):
        for name in order.permutation(list(functions)):
            if turn < 6 or statistics.median(times[name]) < SLOW:
                times[name].append(gradients.restored(functions[name]))
    rows = []
    for name, column in times.items():
        ratios = [own / base for own, base in zip(column[1:], times[BASE][1:], strict=False)]
        rows.append(
            {
                "network": gradients.name,
                "tensors": len(gradients.parameters),
                "history": history,
                "clips": clips,
                "way": name,
                "seconds": statistics.median(column[1:]),
                "ratio": statistics.median(ratios),
                "operations": operations[name],
            }
        )
    return rows


def measure_folded(gradients: Gradients, history: int, repetitions: int) -> dict[str, Any]:
    """What clipping adds to a fused optimizer's step that multiplies by the coefficient, beside the authors' code."""
    norms = gradients.norms(history)
    optimizer = torch.optim.Adam(gradients.parameters, lr=1e-6, fused=True)
    clipper, theirs = with_history(AutoClip(0), norms), published(gradients.network, norms, True)

    def attached() -> float:
        attachment = clipper.attach(optimizer)
        elapsed = gradients.restored(optimizer.step)
        attachment.remove()
        return elapsed

    times = []
    for _ in tqdm(range(repetitions), desc="folded", leave=False):
        times.append((attached() - gradients.restored(optimizer.step), gradients.restored(theirs)))
    folded, whole = (statistics.median(column) for column in zip(*times, strict=True))
    return {"history": history, "folded": folded, "published": whole, "ratio": folded / whole}


def measure_percentile(size: int, window: int | None, repetitions: int) -> dict[str, Any]:
    """Seconds to add one norm to a history of `size` and read the 10th percentile, in both ways."""
    random = np.random.default_rng(0)
    values = random.lognormal(0, 1, size).tolist()
    history = StreamingPercentile(window, values)
    history.percentile(10)  # sorts them
    if window is not None:
        values = values[-window:]
    upcoming = iter(random.lognormal(0, 1, 400 * repetitions).tolist())

    def streaming() -> None:
        for _ in range(200):
            history.add(next(upcoming))
            history.percentile(10)

    def numpy() -> None:
        values.append(next(upcoming))
        if window is not None:
            del values[0]
        np.percentile(values, 10)

    times = [(seconds(streaming) / 200, seconds(numpy)) for _ in range(repetitions)]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return {"history": size, "window": window, "streaming": ours, "numpy": theirs, "ratio": theirs / ours}


def measure_state(size: int, repetitions: int) -> dict[str, Any]:
    """Seconds to save and to load a history of `size`, and of the first step after that."""
    norms = np.random.default_rng(0).lognormal(0, 1, size)
    clipper = with_history(AutoClip(), norms.tolist())
    state = clipper.state_dict()
    parameter = nn.Parameter(torch.zeros(1))
    times = []
    for _ in range(repetitions):
        loaded, parameter.grad = AutoClip(), torch.ones(1)
        steps = loaded.state_dict, partial(loaded.load_state_dict, state), partial(loaded.clip_, [parameter])
        times.append((seconds(clipper.state_dict), *(seconds(step) for step in steps[1:])))
        if not np.array_equal(dict(loaded.state_dict()["history"])["all"][:size].numpy(), norms):
            raise InputError("the loaded history differs from the saved one")
    save, load, first = (statistics.median(column) for column in zip(*times, strict=True))
    return {"history": size, "state_dict": save, "load_state_dict": load, "first step": first}


def measure_step(network: nn.Module, batch_size: int, frames: int, repetitions: int) -> dict[str, Any]:
    """Seconds of the bare network's training step, and of `clip_` in it."""
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    clipper = AutoClip(10)
    device = next(network.parameters()).device
    mixture = Mixture(magnitude=torch.rand(batch_size, frames, 129, device=device))

    def step() -> None:
        optimizer.zero_grad()
        network(mixture)["mask"].square().mean().backward()

    times = []
    for _ in tqdm(range(repetitions), desc="training step", leave=False):
        backward = seconds(step, device)
        clip = seconds(lambda: clipper.clip_(network.parameters()), device)
        times.append((backward + seconds(optimizer.step, device), clip))
    bare, clip = (statistics.median(column) for column in zip(*times, strict=True))
    return {"batch": f"{batch_size} x {frames} frames", "step": bare, "clip": clip, "ratio": clip / bare}


def small_tensors(count: int) -> nn.Module:
    """A network of nothing but matrices of 32 x 32 and vectors of 32."""
    return nn.Sequential(*(nn.Linear(32, 32) for _ in range(count // 2)))


def results_text(results: dict[str, Any]) -> str:
    """The results as tables."""
    aims = {} if results["quick"] else GPU_AIMS if results["device"] == "cuda" else AIMS
    rows = [
        [
            f"{row['network']}, {row['history']:,} norms, {'clips' if row['clips'] else 'looks'}: {row['way']}",
            f"{1e3 * row['seconds']:.2f}",
            f"{row['ratio']:.2f}",
            f"{aims[key]:.2f}" if (key := (row["network"], row["way"], row["clips"])) in aims else "",
            str(row["operations"]),
        ]
        for row in results["clip"]
    ]
    percentile = [
        [
            f"{row['history']:,}" + (f", window {row['window']:,}" if row["window"] else ""),
            f"{1e6 * row['streaming']:.2f}",
            f"{1e6 * row['numpy']:.0f}",
            f"{row['ratio']:.0f}",
        ]
        for row in results["percentile"]
    ]
    state, step = results["state"], results["step"]
    states = [
        [name, f"{1e3 * state[name]:.1f}", f"{1e3 * STATE_AIMS[name]:.0f}" if name in STATE_AIMS else ""]
        for name in ("state_dict", "load_state_dict", "first step")
    ]
    return "\n\n".join(
        [
            table(["", "[ms]", f"/ {BASE}", "aim: at most", "operations"], rows),
            *(f"{name}: not installed" for name in results["missing"]),
            *(
                f"folded into a fused step, {row['history']:,} norms: {1e3 * row['folded']:.2f} ms,"
                f" {row['ratio']:.2f} of the authors' code"
                for row in results["folded"]
            ),
            table(["history", "streaming [us]", "np.percentile [us]", "times faster"], percentile),
            table([f"{state['history']:,} norms", "[ms]", "aim: at most"], states),
            f"training step, {step['batch']}: {step['step']:.2f} s, of which clip_ {1e3 * step['clip']:.1f} ms:"
            f" {step['ratio']:.2%} (aim: at most 1%)",
        ]
    )


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a .json file for the results")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    quick, device = arguments.quick, torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device={device}: torch sees no GPU here; use --device=cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    paper = mask_inference(256, 60 if quick else 600, 4, 0.0, 2, "sigmoid").to(device)
    networks = {PAPER: paper, SMALL: small_tensors(100 if quick else 1000).to(device)}
    repetitions, lengths = (3, (10, 1000)) if quick else (101, (1000, 10**6))
    sizes: list[tuple[int, int | None]] = [(lengths[0], None), (10**5, None), (lengths[1], None), (10**5, 10_000)]
    results = {
        "device": device.type,
        "quick": quick,
        "parameters": {name: num_parameters(network) for name, network in networks.items()},
        "clip": [
            row
            for name, network in networks.items()
            for gradients in [Gradients(name, network)]
            for history in lengths
            for clips in (True, False)
            for row in measure(gradients, history, clips, repetitions)
        ],
        "missing": missing(),
        "folded": [measure_folded(Gradients(PAPER, paper), history, repetitions) for history in (10, 10**5)],
        "percentile": [measure_percentile(size, window, repetitions) for size, window in sizes],
        "state": measure_state(lengths[1], 3 if quick else 11),
        "step": measure_step(paper, *((2, 20) if quick else (25, 400)), 2 if quick else 3),
    }
    print(results_text(results))
    if arguments.output is not None:
        write_results(arguments.output, results)
        print(f"\n{arguments.output}")


if __name__ == "__main__":
    entry_point(main)
