"""What a training step costs beside its network: `python scripts/bench_train.py [experiment=paper] [threads=1]
[models=[chimera]] [trainer.batch_size=4] [output=FILE.json]`.

For each model, alternating in one process: the network's bare step (forward, backward of a sum, Adam's step on a
ready batch), and the whole step (features from waveforms, network, loss, backward, clipping, Adam, reading the loss).
Medians.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from separation import cli
from separation.assembly import build, set_threads
from separation.atomic import write_text
from separation.data.mixtures import Batch
from separation.errors import check_count
from separation.features import features
from separation.models import num_parameters, pick_device
from separation.provenance import provenance
from separation.results import table
from separation.training_step import Precision, TrainingParts, train_step


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Of one call, until the device is done."""
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(model: str, overrides: list[str], repetitions: int) -> dict[str, Any]:
    """Medians of both steps of one model, in seconds."""
    config = cli.compose_config("config", [*overrides, f"model={model}"])
    set_threads(config)
    device = pick_device(config.device)
    torch.manual_seed(0)
    network = build(config, "model.network").to(device)
    stft = build(config, "stft")
    num_samples = stft.num_samples(config.trainer.excerpt_frames)
    sources = 0.05 * torch.randn(config.trainer.batch_size, config.mixing.num_sources, num_samples)
    batch = Batch(sources, torch.full((len(sources),), num_samples), ())
    magnitude = features(sources.to(device), stft).mixture_magnitude
    plain = build(config, "optimizer", params=network.parameters())
    optimizer = build(config, "optimizer", params=network.parameters())
    parts = TrainingParts(
        network=network,
        loss=build(config, "model.loss"),
        clipping=build(config, "clip").attach(optimizer, network.named_parameters(), config.trainer.fold_clipping),
        optimizer=optimizer,
        stft=stft,
        data=None,  # type: ignore[arg-type]
        device=device,
        precision=Precision(config.trainer.precision, device),
    )

    def bare() -> None:
        plain.zero_grad()
        torch.stack([output.sum() for output in network(magnitude).values()]).sum().backward()
        plain.step()

    times = []
    for _ in tqdm(range(repetitions + 1), desc=model, leave=False):
        times.append((seconds(bare, device), seconds(lambda: float(train_step(parts, batch)[0]), device)))
    network_step, whole = (statistics.median(column) for column in zip(*times[1:], strict=True))  # the first warms up
    return {
        "parameters": num_parameters(network),
        "batch": f"{len(sources)} x {config.trainer.excerpt_frames} frames",
        "bare": network_step,
        "whole": whole,
        "ratio": whole / network_step,
    }


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\n{(cli.CONF / 'bench_train.yaml').read_text()}")
        return
    own, overrides = cli.split_overrides(arguments, "bench_train")
    check_count("repetitions", own.repetitions)
    results = {model: measure(model, overrides, own.repetitions) for model in own.models}
    rows = [
        [name, row["batch"], f"{1e3 * row['bare']:.1f}", f"{1e3 * row['whole']:.1f}", f"{row['ratio']:.3f}"]
        for name, row in results.items()
    ]
    print(table(["model", "batch", "bare network [ms]", "whole step [ms]", "ratio"], rows))
    if own.output is not None:
        results["provenance"] = provenance(" ".join(["python scripts/bench_train.py", *arguments]), 0)
        Path(own.output).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(own.output), json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    cli.entry_point(main)
