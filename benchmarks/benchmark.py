"""What the benchmarks share: reading settings, timing side by side, writing results with their provenance."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from separation.app.settings import arguments, split_overrides
from separation.errors import check_count
from separation.runs.atomic_files import check_writable
from separation.runs.provenance import write_json

CONF = Path(__file__).parent / "conf"


def settings(doc: str | None, name: str) -> tuple[DictConfig, list[str]]:
    """The benchmark's settings, conf/NAME.yaml, from the command line; and overrides for those of a run."""
    benchmark, overrides = split_overrides(arguments(doc, name, CONF), name, CONF)
    for key in ("repetitions", "steps", "num_mixtures"):
        if key in benchmark:
            check_count(key, benchmark[key])
    if benchmark.get("output") is not None:
        check_writable("output", Path(str(benchmark.output)).parent)
    return benchmark, overrides


def seconds(function: Callable[[], object], device: torch.device | None = None) -> float:
    """How long one call takes, until the device is done."""
    start = time.perf_counter()
    function()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def alternating(
    functions: Sequence[Callable[[], object]], repetitions: int, title: str, device: torch.device | None = None
) -> list[float]:
    """Each function's median time in seconds; they take turns, and the first turn warms up."""
    rounds = tqdm(range(repetitions + 1), desc=title, leave=False)
    times = [[seconds(function, device) for function in functions] for _ in rounds]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def write_results(output: object, results: dict[str, Any], seed: int = 0) -> None:
    """Writes JSON, with where it comes from, if an output is named."""
    if output is not None:
        write_json(Path(str(output)), results, seed)
