"""Whether late steps cost what early ones do: `python benchmarks/bench_growth.py data=fsdd data.root=FSDD [steps=50000]
[output=FILE.json] [model.hidden_size=8]`.

Trains a network, a tiny one by default, so that history, logging and checkpoints weigh as much as they can, with
everything that a training run writes. Then prolongs that run and a young one in turns, some steps at a time: the ratio
of their medians says whether late steps cost more, whatever else slows the machine meanwhile. Prints the time of a step
and the resident memory along the long run too.
"""

import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from benchmark import settings, write_results
from tqdm import tqdm

from separation.app.assembly import build, build_parts, set_threads
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.errors import check_count
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import table
from separation.training.interruption import Interruption
from separation.training.processes import Processes

WARM_UP = 100
WINDOWS = 50
ROUNDS, BLOCK, FIRST = 15, 200, 20
"""Turns of the two runs, steps of a turn, and how many of them warm up again."""
TINY = ["model.hidden_size=8", "model.num_layers=1", "trainer.batch_size=1", "trainer.excerpt_frames=20"]
TINY += ["data.num_train=5000", "data.num_valid=4", "trainer.progress=false", "device=cpu"]


class StepLog(Interruption):
    """Notes the time in seconds whenever training asks whether a signal came, which it does once a step; and the
    resident memory in MB every so often. So a step's time has all that is between two steps: writing, checkpoints."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.times: list[float] = []
        self.megabytes: list[float] = []

    def asked(self) -> int:
        self.times.append(time.perf_counter())
        if len(self.times) % self.every == 0:
            self.megabytes.append(psutil.Process().memory_info().rss / 1e6)
        return super().asked()

    def seconds(self) -> list[float]:
        """How long each step but the first took."""
        return [end - start for start, end in pairwise(self.times)]


def train(overrides: list[str], folder: Path, until: int, log: StepLog) -> list[float]:
    """Trains the run in a folder up to a step; seconds of each of its steps but the first."""
    settings = [*TINY, *overrides, f"trainer.max_steps={until}", "trainer.resume=true", f"run_dir={folder}"]
    config = compose_config("config", [*settings, "trainer.log_steps=1"])
    set_threads(config)
    parts, trainer = build_parts(config, torch.device("cpu"), Processes()), build(config, "trainer")
    with RunFolder.create(folder, config, True) as run:
        trainer.fit(parts, run, log)
        run.save_config(config)
    return log.seconds()


def measure(overrides: list[str], steps: int, root: Path) -> dict[str, Any]:
    """Times in seconds and memory in MB along the long run, and late steps beside early ones."""
    overrides = [*overrides, f"data.store={root}/store"]
    width = steps // WINDOWS
    memory = StepLog(width)
    times = train(overrides, root / "old", steps, memory)
    train(overrides, root / "young", WARM_UP, StepLog(BLOCK))
    ends = {"old": steps, "young": WARM_UP}
    blocks: dict[str, list[float]] = {name: [] for name in ends}
    for _ in tqdm(range(ROUNDS), desc="rounds", leave=False):
        for name in ends:
            ends[name] += BLOCK
            blocks[name] += train(overrides, root / name, ends[name], StepLog(BLOCK))[FIRST:]
    windows = [times[start : start + width] for start in range(0, width * WINDOWS, width)]
    old, young = (statistics.median(blocks[name]) for name in ends)
    return {
        "steps": steps,
        "seconds_a_step": [statistics.median(window) for window in windows],
        "megabytes": memory.megabytes,
        "late": old,
        "early": young,
        "late_beside_early": old / young,
        "grown_by_megabytes": memory.megabytes[-1] - memory.megabytes[1],
    }


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "bench_growth")
    check_count("steps", program.steps, minimum=3 * max(WINDOWS, WARM_UP))
    width = program.steps // WINDOWS
    with tempfile.TemporaryDirectory() as temporary:
        results = measure(overrides, width * WINDOWS, Path(temporary))
    rows = [
        [str((number + 1) * width), f"{1e3 * seconds:.3f}", f"{megabytes:.0f}"]
        for number, (seconds, megabytes) in enumerate(zip(results["seconds_a_step"], results["megabytes"], strict=True))
    ]
    print(table(["up to step", "ms a step", "resident MB"], rows))
    print(f"\nmemory {results['grown_by_megabytes']:+.1f} MB")
    print(f"steps from {program.steps} on beside those from {WARM_UP} on: {results['late_beside_early']:.3f}")
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
