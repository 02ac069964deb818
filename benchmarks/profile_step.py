"""Where a training step's time goes: `python benchmarks/profile_step.py [model=chimera] [threads=1] [steps=10]
[output=FILE.json] [trace=TRACE.json]`.

torch.profiler over some steps as the training loop takes them: the share of each kind of operation, and the single
operations that take most.
"""

from pathlib import Path
from typing import Any

from bench_train import Step
from benchmark import settings, write_results
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from separation.app.command import entry_point
from separation.errors import check_count
from separation.runs.summaries import table

KINDS = {
    "LSTM layers, backward": ("mkldnn_rnn_layer_backward", "_cudnn_rnn_backward"),
    "LSTM layers, forward": ("mkldnn_rnn_layer", "_cudnn_rnn"),
    "matrix products": ("mm", "addmm", "bmm", "baddbmm"),
    "Fourier transforms": ("_fft_r2c", "_fft_c2r"),
    "normalisation of the input": ("native_batch_norm", "native_batch_norm_backward", "cudnn_batch_norm"),
    "Adam and gradient norms": ("_fused_adam_", "_foreach_norm", "_foreach_mul_", "Optimizer.step#Adam.step"),
    "copies": ("copy_", "cat", "gather", "fill_", "roll"),
}
"""What torch's operations belong to; the rest is elementwise arithmetic, reductions and their launching."""
REST = "elementwise arithmetic and sums"


def measure(step: Step, count: int, trace: Path | None) -> dict[str, Any]:
    """Shares of each kind and of each operation, and seconds a step."""
    on_gpu = step.device.type == "cuda"
    for _ in range(3):
        step.whole()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        for _ in range(count):
            step.whole()
    if trace is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    attribute = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    # On a GPU kernels have rows of their own, beside those of the operations that launch them.
    events = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
    times = {event.key.removeprefix("aten::"): getattr(event, attribute) / 1e6 for event in events}
    total = sum(times.values())
    kinds = {kind: sum(times.get(name, 0.0) for name in names) / total for kind, names in KINDS.items()}
    kinds[REST] = 1 - sum(kinds.values())
    operations = sorted(((name, value / total) for name, value in times.items()), key=lambda pair: -pair[1])
    return {
        "batch": f"{len(step.batch.sources)} x {step.config.trainer.excerpt_frames} frames",
        "seconds_a_step": total / count,
        "kinds": kinds,
        "operations": dict(operations),
    }


def main() -> None:
    """Profiles and prints; writes JSON and a trace where they are named."""
    program, overrides = settings(__doc__, "profile_step")
    check_count("rows", program.rows)
    chosen = [argument.removeprefix("model=") for argument in overrides if argument.startswith("model=")]
    step = Step((chosen or ["mask_inference"])[-1], [item for item in overrides if not item.startswith("model=")])
    results = measure(step, program.steps, None if program.trace is None else Path(program.trace))
    kinds = sorted(results["kinds"].items(), key=lambda pair: -pair[1])
    print(table(["kind", "share"], [[name, f"{share:.1%}"] for name, share in kinds]))
    operations = list(results["operations"].items())[: program.rows]
    print("\n" + table(["operation", "share"], [[name, f"{share:.1%}"] for name, share in operations]))
    print(f"\n{results['batch']}, {1e3 * results['seconds_a_step']:.1f} ms a step in operations")
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
