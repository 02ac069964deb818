"""What the benchmarks share: reading settings, timing side by side, writing results with their provenance."""

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from separation.app import command as cli
from separation.errors import check_count
from separation.runs.atomic_files import write_text
from separation.runs.provenance import provenance

CONF = Path(__file__).parent / "conf"


def settings(doc: str | None, name: str) -> tuple[DictConfig, list[str]]:
    """The script's own settings, conf/NAME.yaml, from the command line; and overrides for those of a run.

    With --help, prints how to call it and ends.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(f"{doc}\n{(CONF / f'{name}.yaml').read_text()}")
        sys.exit()
    own, overrides = cli.split_overrides(arguments, name, CONF)
    for key in ("repetitions", "steps", "num_mixtures"):
        if key in own:
            check_count(key, own[key])
    return own, overrides


def seconds(function: Callable[[], object], device: torch.device | None = None) -> float:
    """Of one call, until the device is done."""
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
    """Writes JSON, with where it comes from, if an output is named. Of paths in the command, the last part is kept."""
    if output is None:
        return
    arguments = [re.sub(r"(?<==)/[^,\]]*/", "", argument) for argument in sys.argv[1:]]
    results["provenance"] = provenance(" ".join([f"python scripts/{Path(sys.argv[0]).name}", *arguments]), seed)
    path = Path(str(output))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(results, indent=1) + "\n")
