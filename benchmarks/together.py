"""What runs cost that train as one: `python benchmarks/together.py [experiment=paper_small] [counts=[1,4,8]]
[device=cuda] [threads=1] [output=FILE.json]`.

For each number of runs, on a batch of noise: a step of all of them with their BLSTMs as one (stacked), and one after
another, beside so many times a single run's step. On a GPU all are CUDA graphs, clip there, and are taken in float32,
TF32 and bfloat16; `nvidia-cuda-mps-control -d` and several of `benchmarks/bench_train.py` at once show what MPS does.
Prints and writes each line as it is measured.
"""

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psutil
import torch
from bench_train import ON_GPU, parts_on_noise
from benchmark import alternating, settings, write_results

from separation.app.assembly import set_threads
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.app.together import num_bytes
from separation.data.mixtures import Batch
from separation.errors import check_count
from separation.training.cuda_graph import Graphed, make_capturable
from separation.training.devices import pick_device
from separation.training.together.joint_step import Seat, joint_step

GPU_VARIANTS = {
    f"CUDA graph, {precision}": [
        *ON_GPU,
        "clip.capturable=true",
        "trainer.cuda_graph=true",
        f"trainer.precision={precision}",
    ]
    for precision in ("fp32", "tf32", "bf16")
}
KINDS = ("single", "one after another", "stacked")


class GroupOnNoise:
    """Runs of one shape, with a batch of noise that they share."""

    def __init__(self, count: int, overrides: Sequence[str]) -> None:
        config = compose_config("config", list(overrides))
        set_threads(config)
        made = [parts_on_noise(config, seed) for seed in range(count)]
        self.runs = [parts for parts, _ in made]
        self.batches = [made[0][1]] * count
        self.device = self.runs[0].device
        self.graphed = bool(config.trainer.cuda_graph)
        if self.graphed:
            for parts in self.runs:
                make_capturable(parts)
        seats = [Seat.of(parts) for parts in self.runs]
        single = self._step(seats[:1], stacked=False)
        together = {stacked: self._step(seats, stacked) for stacked in (False, True)}
        self.kinds: dict[str, Callable[[], object]] = {
            "single": lambda: single(self.batches[:1]),
            "one after another": lambda: together[False](self.batches),
            "stacked": lambda: together[True](self.batches),
        }
        self.bytes = num_bytes(config)

    def _step(self, seats: Sequence[Seat], stacked: bool) -> Callable[[Sequence[Batch]], object]:
        take = partial(joint_step, seats, stacked=stacked)
        return Graphed([seat.parts for seat in seats], take) if self.graphed else take


def measure(count: int, overrides: Sequence[str], steps: int) -> dict[str, Any]:
    """Medians of the steps of so many runs, in seconds, and the memory that they need."""
    gc.collect()
    group = GroupOnNoise(count, overrides)
    if group.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(group.device)
    for step in group.kinds.values():  # graphs are captured, Adam makes its moments
        for _ in range(5):
            step()
    medians = alternating(list(group.kinds.values()), steps, f"{count} runs", group.device)
    on_gpu = group.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(group.device) if on_gpu else psutil.Process().memory_info().rss
    return {
        "runs": count,
        **dict(zip(KINDS, medians, strict=True)),
        "seconds_a_run_and_step": medians[-1] / count,
        "times_faster": count * medians[0] / medians[-1],
        "memory_bytes": memory,
        "estimated_bytes": count * group.bytes,
    }


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "together")
    for count in program.counts:
        check_count("counts", count, maximum=1000)
    on_cpu = pick_device(compose_config("config", overrides).device).type == "cpu"
    results: dict[str, Any] = {}
    for variant, extra in ({"": []} if on_cpu else GPU_VARIANTS).items():
        for count in program.counts:
            name = f"{count} runs, {variant}" if variant else f"{count} runs"
            try:
                results[name] = measure(count, [*overrides, *extra], program.steps)
            except torch.OutOfMemoryError as error:
                results[name] = {"runs": count, "problem": str(error).splitlines()[0]}
                torch.cuda.empty_cache()
            write_results(program.output, results)
            print(_line(name, results[name]), flush=True)


def _line(name: str, row: dict[str, Any]) -> str:
    """A result in words."""
    if "problem" in row:
        return f"{name}: {row['problem']}"
    times = ", ".join(f"{kind} {1e3 * row[kind]:.1f} ms" for kind in KINDS)
    return (
        f"{name}: {times}; stacked {1e3 * row['seconds_a_run_and_step']:.2f} ms a run and step,"
        f" {row['times_faster']:.2f} times as fast as single runs; {row['memory_bytes'] / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    entry_point(main)
