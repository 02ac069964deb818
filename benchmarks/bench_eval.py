"""What evaluation costs beside the network's bare forward pass, and beside nussl's evaluation of the same mixtures:
`python benchmarks/bench_eval.py run=RUN_DIR [num_mixtures=32] [repetitions=5] [output=FILE.json] [threads=2]`.

Alternating in one process, medians, a mixture: the network's forward pass on ready spectrograms; forward, separator,
inverse STFT and SI-SDR (torch); the oracles; SI-SDR by museval; BSS Eval with 512 taps, ours and museval's; writing
audio; and nussl's separators and `BSSEvalScale`, one mixture after the other, for models with masks or embeddings.
Overrides of the run's settings are taken as by evaluate.py.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import alternating, settings, write_results
from torch import Tensor

from separation.app.assembly import load_model, set_threads
from separation.app.command import entry_point
from separation.app.nussl_export import export
from separation.app.settings import run_config, run_data, run_folder
from separation.compat import nussl
from separation.data.mixtures import Batch, MixtureList
from separation.evaluation.audio_examples import write_audio
from separation.evaluation.bss_eval import bss_eval
from separation.evaluation.bss_eval_by_museval import bss_eval_by_museval
from separation.evaluation.evaluator import ModelEstimator
from separation.evaluation.metrics import si_sdr_by_museval, si_sdr_by_torch
from separation.evaluation.oracles import ORACLES, OracleEstimator
from separation.model.assignment import reorder
from separation.model.features import Mixture
from separation.model.separators import KMeansSeparator, TrainedModel
from separation.model.si_sdr import best_permutation, si_sdr
from separation.runs.summaries import table

BATCH = 16


class Bench:
    """One model, some mixtures in batches by length, and what is done with them."""

    def __init__(self, model: TrainedModel, mixtures: MixtureList, count: int, exported: str) -> None:
        order = sorted(range(min(count, len(mixtures))), key=mixtures.length)
        self.batches = [mixtures.whole(order[i : i + BATCH]) for i in range(0, len(order), BATCH)]
        self.model = model
        self.rate = mixtures.store.sample_rate
        self.exported = exported
        self.estimator = ModelEstimator(model.network, model.separator, model.stft, model.device)
        self.inputs = [
            Mixture(magnitude=model.stft(batch.mixture).abs(), stft=model.stft, num_samples=batch.num_samples)
            for batch in self.batches
        ]
        self.estimates = [self.separate(batch) for batch in self.batches]
        self.nussl_scores = self.full_scores = self.museval_full_scores = np.zeros(0)

    def separate(self, batch: Batch) -> Tensor:
        """Estimates in the references' order, shape (batch, source, time)."""
        estimates = self.estimator(batch)
        return reorder(estimates, best_permutation(estimates, batch.sources))

    @torch.inference_mode()
    def forward(self) -> None:
        for mixture in self.inputs:
            self.model.network(mixture)

    def ours(self) -> None:
        for batch in self.batches:
            si_sdr_by_torch(self.separate(batch), batch.sources, batch.num_samples)

    def centred_scores(self) -> np.ndarray:
        """Each mixture's SI-SDR with every signal's mean removed, as BSSEvalScale does first."""
        scores = []
        for batch, estimates in zip(self.batches, self.estimates, strict=True):
            for estimate, sources, length in zip(estimates, batch.sources, batch.num_samples.tolist(), strict=True):
                pair = [signal[:, :length] - signal[:, :length].mean(1, keepdim=True) for signal in (estimate, sources)]
                scores.append(si_sdr(*pair).mean())
        return np.array(scores)

    def oracles(self) -> None:
        for batch in self.batches:
            for name in ORACLES:
                estimates = OracleEstimator(name, self.model.stft)(batch)
                si_sdr_by_torch(estimates, batch.sources, batch.num_samples)

    def museval(self) -> None:
        for batch, estimates in zip(self.batches, self.estimates, strict=True):
            si_sdr_by_museval(estimates, batch.sources, batch.num_samples)

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each mixture's estimates and references, shape (source, time)."""
        for batch, estimates in zip(self.batches, self.estimates, strict=True):
            for sources, estimate, length in zip(batch.sources, estimates, batch.num_samples.tolist(), strict=True):
                yield estimate[:, :length].numpy(), sources[:, :length].numpy()

    def bss_eval(self) -> None:
        self.full_scores = np.array([bss_eval(*pair, num_taps=512) for pair in self.pairs()])

    def museval_bss_eval(self) -> None:
        self.museval_full_scores = np.array([bss_eval_by_museval(*pair, num_taps=512) for pair in self.pairs()])

    def files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number, (estimates, sources) in enumerate(self.pairs()):
                named = {"mixture": sources.sum(0)}
                named |= {f"reference_{i}": source for i, source in enumerate(sources)}
                named |= {f"estimate_{i}": estimate for i, estimate in enumerate(estimates)}
                signals = {name: torch.from_numpy(signal) for name, signal in named.items()}
                write_audio(Path(folder) / "audio" / str(number), signals, self.rate)

    def nussl(self) -> None:
        package = nussl()
        params = package.STFTParams(self.model.stft.window_length, self.model.stft.hop_length, "sqrt_hann")
        separators = package.separation.deep
        rows = []
        for batch in self.batches:
            for sources, length in zip(batch.sources, batch.num_samples.tolist(), strict=True):
                signals = [
                    package.AudioSignal(
                        audio_data_array=samples.double().numpy(), sample_rate=self.rate, stft_params=params
                    )
                    for samples in [*sources[:, :length], sources[:, :length].sum(0)]
                ]
                if isinstance(self.model.separator, KMeansSeparator):
                    settings = self.model.separator
                    separator = separators.DeepClustering(
                        signals[-1], settings.num_sources, model_path=self.exported, mask_type="binary",
                        n_init=settings.restarts, max_iter=settings.iterations, random_state=settings.seed,
                    )  # fmt: skip
                else:
                    separator = separators.DeepMaskEstimation(signals[-1], model_path=self.exported)
                evaluation = package.evaluation.BSSEvalScale(signals[:-1], separator(), compute_permutation=True)
                scores = evaluation.evaluate()
                rows.append([np.mean(scores[key]["SI-SDR"]) for key in scores if key.startswith("source")])
        self.nussl_scores = np.array(rows).mean(1)


def measure(bench: Bench, repetitions: int) -> dict[str, Any]:
    """Medians in seconds a mixture, ratios, and how far the scores lie apart."""
    parts: list[Callable[[], None]] = [
        bench.forward,
        bench.ours,
        bench.oracles,
        bench.museval,
        bench.bss_eval,
        bench.museval_bss_eval,
        bench.files,
        bench.nussl,
    ]
    count = sum(len(batch.names) for batch in bench.batches)
    times = alternating(parts, repetitions, "repetitions")
    medians = {part.__name__: median / count for part, median in zip(parts, times, strict=True)}
    difference = np.abs(bench.centred_scores() - bench.nussl_scores).max()
    return {
        "mixtures": count,
        "seconds_a_mixture": medians,
        "ours_beside_forward": medians["ours"] / medians["forward"],
        "nussl_beside_ours": medians["nussl"] / medians["ours"],
        "largest_difference_db": float(difference),
        "museval_beside_our_bss_eval": medians["museval_bss_eval"] / medians["bss_eval"],
        "largest_bss_eval_difference_db": float(np.abs(bench.full_scores - bench.museval_full_scores).max()),
    }


def results_text(results: dict[str, Any]) -> str:
    """The results as a table."""
    titles = {
        "forward": "network's forward pass",
        "ours": "forward, separator, inverse STFT, SI-SDR",
        "oracles": "four oracles and their SI-SDR",
        "museval": "SI-SDR by museval",
        "bss_eval": "BSS Eval, 512 taps",
        "museval_bss_eval": "BSS Eval, 512 taps, by museval",
        "files": "five WAV files",
        "nussl": "nussl: separator and BSSEvalScale",
    }
    medians = results["seconds_a_mixture"]
    rows = [
        [title, f"{1e3 * medians[name]:.1f}", f"{medians[name] / medians['forward']:.2f}"]
        for name, title in titles.items()
    ]
    return table(["a mixture", "ms", "of the forward pass"], rows) + (
        f"\n\nnussl takes {results['nussl_beside_ours']:.1f} times as long; the scores of {results['mixtures']}"
        f" mixtures, without their means, lie within {results['largest_difference_db']:.2g} dB\nmuseval's BSS Eval"
        f" takes {results['museval_beside_our_bss_eval']:.1f} times as long; the scores lie within"
        f" {results['largest_bss_eval_difference_db']:.2g} dB"
    )


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "bench_eval")
    folder = run_folder(program.run)
    config = run_config(folder, [*overrides, "device=cpu"])
    set_threads(config)
    mixtures = run_data(config, overrides).tests[0]
    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary) / "model.pth"
        export(folder, exported)
        results = measure(
            Bench(load_model(folder, config), mixtures, program.num_mixtures, str(exported)), program.repetitions
        )
    print(results_text(results))
    write_results(program.output, results, config.seed)


if __name__ == "__main__":
    entry_point(main)
