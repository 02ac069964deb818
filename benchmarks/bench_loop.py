"""Training from WAV files to updated weights, beside nussl: `python benchmarks/bench_loop.py data=fsdd data.root=FSDD
[steps=50] [repetitions=3] [experiment=paper_small] [threads=2] [output=FILE.json]`.

Both train the same mask-inference network (nussl's) with Adam on as many batches of excerpts of the same length in one
process, alternating; medians. Ours: `trainer.fit` with everything it writes; its sample store is built first, which is
timed too. nussl: mixtures and sources as WAV files (written before, untimed) through `MixSourceFolder`, the transforms
of its WHAM recipe without their cache (each mixture is read once), a DataLoader, `TrainClosure` and its engine.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmark import settings, write_results
from omegaconf import DictConfig
from torch.utils.data import DataLoader
from tqdm import tqdm

from separation.app.assembly import build, build_data, build_parts, set_threads
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.compat import nussl
from separation.data import audio
from separation.model.networks import num_parameters
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import table
from separation.training.interruption import Interruption
from separation.training.processes import Processes

CPU = torch.device("cpu")


def ours(overrides: list[str], folder: Path) -> float:
    """Seconds from WAV files to the last checkpoint."""
    config = compose_config("config", [*overrides, f"data.store={folder}/store", f"run_dir={folder}/run"])
    start = time.perf_counter()
    parts, trainer = build_parts(config, CPU, Processes()), build(config, "trainer")
    with RunFolder.create(folder / "run", config, False) as run:
        trainer.fit(parts, run, Interruption())
    return time.perf_counter() - start


def write_mixtures(config: DictConfig, count: int, folder: Path) -> None:
    """A training list as nussl reads it: `mix/`, `s1/`, `s2/`, ... with the same names in each."""
    mixtures = build_data(config).train
    names = ["mix", *(f"s{number + 1}" for number in range(config.mixing.num_sources))]
    for name in names:
        (folder / name).mkdir(parents=True)
    for index in range(count):
        batch = mixtures.whole([index])
        signals = [batch.mixture[0], *batch.sources[0]]
        for name, signal in zip(names, signals, strict=True):
            audio.write(folder / name / f"{index:05}.wav", signal.numpy(), config.data.sample_rate)


def nussl_dataset(config: DictConfig, folder: Path) -> Any:
    """nussl's dataset of such mixtures: excerpts of spectrograms with phase-sensitive targets."""
    package = nussl()
    transforms = package.datasets.transforms
    return package.datasets.MixSourceFolder(
        str(folder),
        stft_params=package.STFTParams(config.stft.window_length, config.stft.hop_length, "sqrt_hann"),
        sample_rate=config.data.sample_rate,
        transform=transforms.Compose(
            [
                transforms.PhaseSensitiveSpectrumApproximation(),
                transforms.ToSeparationModel(),
                transforms.GetExcerpt(config.trainer.excerpt_frames),
            ]
        ),
    )


def nussls(config: DictConfig, folder: Path, steps: int) -> float:
    """Seconds from WAV files to the last update."""
    train = nussl().ml.train
    network = build(config, "model.network").separation_model
    optimizer = torch.optim.Adam(network.parameters(), lr=config.optimizer.lr)
    start = time.perf_counter()
    dataset = nussl_dataset(config, folder)
    closure = train.closures.TrainClosure({"PermutationInvariantLoss": {"args": ["L1Loss"]}}, optimizer, network)
    engine, _ = train.create_train_and_validation_engines(closure)
    loader = DataLoader(dataset, batch_size=config.trainer.batch_size, shuffle=True, drop_last=True)
    engine.run(loader, epoch_length=steps, max_epochs=1)
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "bench_loop")
    overrides += ["model=mask_inference", "trainer.progress=false", f"trainer.max_steps={program.steps}", "device=cpu"]
    times: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        config = compose_config("config", [*overrides, f"data.store={root}/store"])
        set_threads(config)
        write_mixtures(config, program.steps * config.trainer.batch_size, root / "wav")
        for number in tqdm(range(program.repetitions + 1), desc="repetitions", leave=False):  # the first warms up
            times.append((ours(overrides, root / str(number)), nussls(config, root / "wav", program.steps)))
    own_time, peer_time = (statistics.median(column) / program.steps for column in zip(*times[1:], strict=True))
    results: dict[str, Any] = {
        "parameters": num_parameters(build(config, "model.network")),
        "batch": f"{config.trainer.batch_size} x {config.trainer.excerpt_frames} frames",
        "steps": program.steps,
        "ours": own_time,
        "nussl": peer_time,
        "times_faster": peer_time / own_time,
    }
    rows = [["ours", f"{1e3 * own_time:.1f}"], ["nussl", f"{1e3 * peer_time:.1f}"]]
    print(table([f"{results['batch']}", "ms a step"], rows))
    print(f"\n{results['times_faster']:.2f} times faster")
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
