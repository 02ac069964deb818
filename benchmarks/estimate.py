"""What training will cost, before it starts: `python benchmarks/estimate.py experiment=paper data=fsdd [threads=1]
[models=[mask_inference,chimera]] [runs=21] [workers=2] [together=true] [output=FILE.json]`.

Measures a training step, a validation batch and the evaluation of some mixtures, each for some seconds and on noise
instead of a corpus, which needn't be there; and multiplies. Prints steps, seconds a step, time, memory and disk of one
run of each model, and of all of them.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from bench_train import Step
from benchmark import seconds, settings, write_results
from together import GroupOnNoise

from separation.app.assembly import build
from separation.app.command import entry_point
from separation.app.together import num_fitting
from separation.data.drawn_mixtures import DrawnMixtures
from separation.data.utterances import Utterance
from separation.errors import InputError, check_count, check_flag, check_number
from separation.evaluation.evaluator import Evaluator, ModelEstimator
from separation.model.networks import num_parameters
from separation.runs.summaries import table
from separation.training.step import batch_loss

BYTES_A_STEP = 390
"""What steps.csv and TensorBoard's events grow by."""
CHECKPOINTS, ADAM = 2, 3
"""best.pt and last.pt; a parameter and its two moments."""


class NoiseStore:
    """Stands in for a sample store: two speakers' utterances, all noise."""

    def __init__(self, sample_rate: int, num_samples: int) -> None:
        self.sample_rate = sample_rate
        self.on_device = None
        self.utterances = [Utterance(name, name, "test", 0, num_samples, 1.0, 0.05, 0) for name in "abcdef"]
        self.noise = 0.05 * np.random.default_rng(0).standard_normal(2 * num_samples, dtype=np.float32)

    def read_into(self, target: np.ndarray, utterance: Utterance, offset: int, gain: float = 1.0) -> None:
        """Other noise for each utterance."""
        first = (ord(utterance.name) - ord("a")) * len(target) // 6
        np.multiply(self.noise[first : first + len(target)], np.float32(gain), out=target)


def median_seconds(function: Callable[[], object], step: Step, duration: float) -> float:
    """The median over as many calls as take so long, three at least; one more warms up."""
    function()
    times: list[float] = []
    end = time.perf_counter() + duration
    while len(times) < 3 or time.perf_counter() < end:
        times.append(seconds(function, step.device))
    return statistics.median(times)


@torch.inference_mode()
def validation_batch(step: Step) -> None:
    """The loss of one validation batch."""
    step.network.eval()
    float(batch_loss(step.parts, step.network, step.batch))
    step.network.train()


def evaluator(step: Step, mixture_seconds: float) -> tuple[Evaluator, DrawnMixtures]:
    """As training ends: SI-SDR of the model and the oracles, on one batch of noise."""
    config = step.config.copy()
    config.evaluation.progress = False
    estimator = ModelEstimator(step.network, build(config, "model.separator"), step.parts.stft, step.device)
    store = NoiseStore(config.data.sample_rate, round(mixture_seconds * config.data.sample_rate))
    mixtures = DrawnMixtures(store, "test", build(config, "mixing"), config.evaluation.batch_size)  # type: ignore[arg-type]
    return Evaluator(estimator, step.parts.stft, build(config, "evaluation")), mixtures


def measure(
    model: str, overrides: list[str], duration: float, mixture_seconds: float, together: int | None
) -> dict[str, Any]:
    """One run of a model: counts, seconds, bytes; in a process of its own, whose memory is the run's.

    Args:
        together: so many runs are to train as one, or in groups where they don't fit; None: each alone.
    """
    step = Step(model, overrides)
    config, trainer = step.config, build(step.config, "trainer")
    for key in ("num_train", "num_valid", "num_test"):
        if config.data[key] is None:
            raise InputError(f"data.{key}=null: nobody knows how many the corpus lists; give their number")
    steps_per_epoch, total = trainer.num_steps(config.data.num_train)
    size = 1
    if together is None:
        step_time = median_seconds(step.whole, step, duration)
    else:
        size = min(together, num_fitting(config))
        group = GroupOnNoise(size, [*overrides, f"model={model}"])
        kind = "stacked" if step.device.type == "cuda" else "one after another"  # as the launcher does
        step_time = median_seconds(group.kinds[kind], step, duration) / size
    valid_time = median_seconds(lambda: validation_batch(step), step, duration / 5)
    step.network.eval()
    scorer, mixtures = evaluator(step, mixture_seconds)
    test_time = median_seconds(lambda: scorer.evaluate(mixtures), step, duration / 5) / len(mixtures)
    validations = -(-total // steps_per_epoch) * -(-config.data.num_valid // config.trainer.batch_size)
    splits = 2 if config.data.get("unknown_voices") or config.data.get("held_out") else 1
    num_test = splits * config.data.num_test
    training, validation, evaluation = total * step_time, validations * valid_time, num_test * test_time
    on_gpu = step.device.type == "cuda"
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = torch.cuda.max_memory_allocated(step.device) if on_gpu else 1024 * kilobytes
    return {
        "parameters": num_parameters(step.network),
        "batch": f"{config.trainer.batch_size} x {config.trainer.excerpt_frames} frames",
        "steps": total,
        "runs_as_one": size,
        "seconds_a_step": step_time,
        "training_seconds": training,
        "validation_seconds": validation,
        "evaluation_seconds": evaluation,
        "total_seconds": training + validation + evaluation,
        "memory_bytes": memory,
        "disk_bytes": CHECKPOINTS * (4 * ADAM * num_parameters(step.network) + 8 * total) + BYTES_A_STEP * total,
    }


def duration_text(seconds: float) -> str:
    """Two figures and the unit that suits."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def results_text(results: dict[str, dict[str, Any]], runs: int, workers: int) -> str:
    """The results as a table, and all runs together."""
    rows = [
        [
            model,
            f"{row['parameters'] / 1e6:.2f}",
            row["batch"],
            f"{row['runs_as_one']}",
            f"{row['steps']:,}",
            f"{row['seconds_a_step']:.3f}",
            *(duration_text(row[f"{part}_seconds"]) for part in ("training", "validation", "evaluation", "total")),
            f"{row['memory_bytes'] / 1e6:,.0f}",
            f"{row['disk_bytes'] / 1e6:,.0f}",
        ]
        for model, row in results.items()
    ]
    header = [
        "one run",
        "parameters [M]",
        "batch",
        "as one",
        "steps",
        "s a step",
        "training",
        "validation",
        "evaluation",
    ]
    text = table([*header, "in all", "memory [MB]", "disk [MB]"], rows)
    count = runs * len(results)
    if count > 1:
        total = runs * sum(row["total_seconds"] for row in results.values())
        disk = runs * sum(row["disk_bytes"] for row in results.values())
        text += (
            f"\n\n{count} runs, {workers} at once: {duration_text(total / min(workers, count))} and {disk / 1e9:.1f} GB"
        )
    return text


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "estimate")
    for key in ("runs", "workers"):
        check_count(key, program[key])
    check_number("seconds", program.seconds, 0.01, 3600)
    check_number("mixture_seconds", program.mixture_seconds, 0.1, 3600)
    chosen = [argument.removeprefix("model=") for argument in overrides if argument.startswith("model=")]
    overrides = [argument for argument in overrides if not argument.startswith("model=")]
    models = program.models or chosen or ["mask_inference"]
    check_flag("together", program.together)
    together = program.runs if program.together else None
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as process:
        jobs = {
            model: process.submit(measure, model, overrides, program.seconds, program.mixture_seconds, together)
            for model in models
        }
        results = {model: job.result() for model, job in jobs.items()}
    print(results_text(results, program.runs, program.workers))
    print("\nThe sample store takes 2 bytes a sample more: 58 MB an hour at 8 kHz.")
    write_results(program.output, {**results, "runs": program.runs, "workers": program.workers})


if __name__ == "__main__":
    entry_point(main)
