"""Compares a run's separators and the oracles with nussl's own, on the same test mixtures:
`python benchmarks/compare_nussl.py run=RUN_DIR [num_mixtures=16] [output=FILE.json]`.

Masks: nussl's DeepMaskEstimation. Embeddings: the clustering of nussl's DeepClustering, fitted on the same bins with as
many restarts; its inertia (scikit-learn's) and its time beside ours. Oracles: IdealBinaryMask and IdealRatioMask.
Overrides of the run's settings are taken as by evaluate.py.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import settings, write_results
from torch import Tensor

from separation.app.assembly import load_model
from separation.app.command import entry_point
from separation.app.nussl_export import export
from separation.app.settings import run_config, run_data, run_folder
from separation.compat import nussl
from separation.data.mixtures import Batch
from separation.evaluation.evaluator import ModelEstimator
from separation.evaluation.oracles import OracleEstimator
from separation.model.assignment import reorder
from separation.model.clustering import kmeans, nearest, squared_distances
from separation.model.features import Mixture, audible
from separation.model.separators import KMeansSeparator, TrainedModel
from separation.model.si_sdr import best_permutation, si_sdr
from separation.runs.summaries import table

ORACLES = {"ideal_binary": ("IdealBinaryMask", {}), "ideal_ratio": ("IdealRatioMask", {"approach": "msa"})}


def scores(estimates: Tensor, references: Tensor) -> np.ndarray:
    """SI-SDR in dB under the best permutation, mean over sources; one mixture, shapes (source, time)."""
    order = best_permutation(estimates[None], references[None])
    return si_sdr(reorder(estimates[None], order)[0], references).mean().numpy()


class Comparison:
    """One run's model and some mixtures, here and in nussl."""

    def __init__(self, model: TrainedModel, batch: Batch, rate: int, exported: str) -> None:
        self.model = model
        self.batch = batch
        self.exported = exported
        self.package = nussl()
        stft = self.package.STFTParams(model.stft.window_length, model.stft.hop_length, "sqrt_hann")
        self.signal: Callable[[Tensor], Any] = lambda samples: self.package.AudioSignal(
            audio_data_array=samples.double().numpy(), sample_rate=rate, stft_params=stft
        )
        self.references = [
            sources[:, :length] for sources, length in zip(batch.sources, batch.num_samples.tolist(), strict=True)
        ]

    def differences(self, estimates: Tensor, separator: Callable[[Tensor], Any]) -> dict[str, float]:
        """Mean scores of ours and of a nussl separator's, and the largest difference of one mixture, in dB."""
        ours = [scores(estimate[:, : r.shape[1]], r) for estimate, r in zip(estimates, self.references, strict=True)]
        theirs = [
            scores(torch.from_numpy(np.stack([signal.audio_data[0] for signal in separator(r)()])).float(), r)
            for r in self.references
        ]
        largest = float(np.max(np.abs(np.subtract(ours, theirs))))
        return {"ours": float(np.mean(ours)), "nussl": float(np.mean(theirs)), "largest_difference": largest}

    def oracle(self, name: str) -> dict[str, float]:
        kind, settings = ORACLES[name]
        benchmark = getattr(self.package.separation.benchmark, kind)
        return self.differences(
            OracleEstimator(name, self.model.stft)(self.batch),
            lambda r: benchmark(self.signal(r.sum(0)), [self.signal(source) for source in r], **settings),
        )

    def masks(self) -> dict[str, float]:
        model = self.model
        return self.differences(
            ModelEstimator(model.network, model.separator, model.stft, model.device)(self.batch),
            lambda r: self.package.separation.deep.DeepMaskEstimation(self.signal(r.sum(0)), model_path=self.exported),
        )

    @torch.inference_mode()
    def clustering(self, separator: KMeansSeparator, repetitions: int) -> dict[str, float]:
        """Inertia and seconds a mixture of the clustering alone, from embeddings to labels of all bins."""
        length = min(r.shape[1] for r in self.references)  # of one length, so that a batch has no padding
        mixtures = torch.stack([r[:, :length].sum(0) for r in self.references])
        mixture = Mixture(mixtures, self.model.stft)
        magnitude = mixture.magnitude
        outputs = self.model.network(mixture)
        points, loud = outputs["embedding"].flatten(1, 2), audible(magnitude, separator.threshold)
        theirs = [
            self.package.separation.deep.DeepClustering(
                self.signal(mixture), separator.num_sources, mask_type="binary", n_init=separator.restarts,
                max_iter=separator.iterations, random_state=separator.seed,
            )
            for mixture in mixtures
        ]  # fmt: skip
        features = [embedding[:, :, None].numpy() for embedding in outputs["embedding"]]
        for other, item in zip(theirs, loud.bool().numpy(), strict=True):
            other.tf_point_over_cutoff = item[:, :, None]

        def cluster() -> None:
            for other, item in zip(theirs, features, strict=True):
                other.cluster_features(item, other.clusterer)

        times = [(_seconds(lambda: separator.masks(outputs, mixture)), _seconds(cluster)) for _ in range(repetitions)]
        ours, nussls = (statistics.median(column) / len(mixtures) for column in zip(*times, strict=True))
        weight = loud.flatten(1)
        centroids = kmeans(
            points, weight, separator.num_sources, separator.restarts, separator.iterations, separator.seed
        )
        inertia = (weight * squared_distances(points, centroids).amin(1)).sum(1)
        reference = torch.tensor([other.clusterer.inertia_ for other in theirs])
        labels = nearest(points, centroids)
        agreement = [
            float((labels[i] == torch.from_numpy(other.clusterer.predict(points[i].numpy()))).float().mean())
            for i, other in enumerate(theirs)
        ]
        return {
            "largest_inertia_ratio": float((inertia / reference).max()),
            "smallest_agreement_of_labels": min(max(share, 1 - share) for share in agreement),
            "ours": ours,
            "nussl": nussls,
            "times_faster": nussls / ours,
        }


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def results_text(results: dict[str, Any]) -> str:
    """The results as tables."""
    rows = [
        [name, f"{row['ours']:.3f}", f"{row['nussl']:.3f}", f"{row['largest_difference']:.2g}"]
        for name, row in results.items()
        if "largest_difference" in row
    ]
    text = table(["SI-SDR [dB]", "ours", "nussl", "largest difference of a mixture"], rows)
    if "clustering" in results:
        row = results["clustering"]
        text += (
            f"\n\nclustering, a mixture: ours {1e3 * row['ours']:.1f} ms, nussl {1e3 * row['nussl']:.1f} ms"
            f" ({row['times_faster']:.1f} times faster); inertia at most {row['largest_inertia_ratio']:.4f} of"
            f" scikit-learn's, labels agree in at least {row['smallest_agreement_of_labels']:.2%} of the bins"
        )
    return text


def main() -> None:
    """Compares and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "compare_nussl")
    folder = run_folder(program.run)
    config = run_config(folder, [*overrides, "device=cpu"])
    mixtures = run_data(config, overrides).tests[0]
    batch = mixtures.whole(list(range(min(program.num_mixtures, len(mixtures)))))
    model = load_model(folder, config)
    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary) / "model.pth"
        export(folder, exported)
        comparison = Comparison(model, batch, config.data.sample_rate, str(exported))
        results: dict[str, Any] = {name: comparison.oracle(name) for name in ORACLES}
        if isinstance(model.separator, KMeansSeparator):
            results["clustering"] = comparison.clustering(model.separator, program.repetitions)
        else:
            results["masks"] = comparison.masks()
    print(results_text(results))
    write_results(program.output, results, config.seed)


if __name__ == "__main__":
    entry_point(main)
