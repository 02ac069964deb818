"""Whether late steps cost what early ones do: `python scripts/bench_growth.py data=fsdd data.root=FSDD [steps=50000]
[output=FILE.json] [model.hidden_size=8]`.

Trains a network, a tiny one by default, so that history, logging and checkpoints weigh as much as they can, with
everything that a training run writes. Prints the median time of a step and the resident memory in windows of a 50th of
the run, the first 100 steps left out; and their change from the second window to the last.
"""

import csv
import statistics
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch
from benchmark import settings, write_results

from separation import cli
from separation.assembly import build, build_parts, set_threads
from separation.errors import check_count
from separation.interruption import Interruption
from separation.processes import Processes
from separation.results import table
from separation.run_folder import RunFolder

WARM_UP = 100
WINDOWS = 50
TINY = ["model.hidden_size=8", "model.num_layers=1", "trainer.batch_size=1", "trainer.excerpt_frames=20"]
TINY += ["data.num_train=5000", "data.num_valid=4", "trainer.progress=false", "device=cpu"]


class MemoryLog(Interruption):
    """Notes the resident memory in MB whenever training asks whether a signal came: once a step."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.asked_times = 0
        self.megabytes: list[float] = []

    def asked(self) -> int:
        self.asked_times += 1
        if self.asked_times % self.every == 0:
            self.megabytes.append(psutil.Process().memory_info().rss / 1e6)
        return super().asked()


def measure(overrides: list[str], steps: int, folder: Path) -> dict[str, Any]:
    """Trains; medians of the windows' times a step in seconds, and the memory at their ends in MB."""
    settings = [*TINY, *overrides, f"trainer.max_steps={steps}", f"run_dir={folder}/run", f"data.store={folder}/store"]
    config = cli.compose_config("config", settings)
    set_threads(config)
    parts, trainer = build_parts(config, torch.device("cpu"), Processes()), build(config, "trainer")
    width = steps // WINDOWS
    memory = MemoryLog(width)
    with RunFolder.create(folder / "run", config, False) as run:
        trainer.fit(parts, run, memory)
        with open(run.steps, newline="", encoding="utf-8") as file:
            times = [float(row["train/seconds"]) for row in csv.DictReader(file)]
    windows = [times[max(start, WARM_UP) : start + width] for start in range(0, steps - width + 1, width)]
    medians = [statistics.median(window) for window in windows if window]
    return {
        "steps": steps,
        "seconds_a_step": medians,
        "megabytes": memory.megabytes,
        "slower": medians[-1] / medians[1] - 1,
        "grown_by_megabytes": memory.megabytes[-1] - memory.megabytes[1],
    }


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    own, overrides = settings(__doc__, "bench_growth")
    check_count("steps", own.steps, minimum=3 * max(WINDOWS, WARM_UP))
    with tempfile.TemporaryDirectory() as temporary:
        results = measure(overrides, own.steps, Path(temporary))
    width = own.steps // WINDOWS
    rows = [
        [str((number + 1) * width), f"{1e3 * seconds:.3f}", f"{megabytes:.0f}"]
        for number, (seconds, megabytes) in enumerate(
            zip(results["seconds_a_step"], results["megabytes"], strict=False)
        )
    ]
    print(table(["up to step", "ms a step", "resident MB"], rows))
    print(f"\ntime {100 * results['slower']:+.1f}%, memory {results['grown_by_megabytes']:+.1f} MB")
    write_results(own.output, results)


if __name__ == "__main__":
    cli.entry_point(main)
