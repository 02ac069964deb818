"""Data beside nussl, on one thread: `python benchmarks/bench_data.py data=fsdd data.root=FSDD [num_mixtures=64]
[repetitions=5] [flac_minutes=30] [output=FILE.json]`.

Items a second, of `trainer.excerpt_frames` frames in batches of `trainer.batch_size`: mixed waveforms; with spectra
and phase-sensitive targets; and what nussl makes of WAV files (written before, untimed) by `MixSourceFolder` and the
transforms of its WHAM recipe, in a DataLoader without workers: spectra and targets too. They take turns in one
process; medians. Then a sample store is built of so many minutes of 16 kHz FLAC, on all cores.
"""

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from bench_loop import nussl_dataset, write_mixtures
from benchmark import alternating, seconds, settings, write_results
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from separation.app.assembly import build, build_data, set_threads
from separation.app.command import entry_point
from separation.app.settings import compose_config
from separation.data import audio
from separation.data.corpora.librispeech import LibriSpeechCorpus
from separation.data.mixtures import MixtureList
from separation.data.sample_store import open_store
from separation.model.features import features
from separation.runs.summaries import table

FLAC_RATE, FLAC_SECONDS, SPEAKERS = 16_000, 12, 4
"""LibriSpeech's rate, and the length of many of its utterances."""


class Readers:
    """What is timed; each reads as many mixtures.

    Args:
        config: of a run.
        folder: that `write_mixtures` filled.
        count: mixtures.
    """

    def __init__(self, config: DictConfig, folder: Path, count: int) -> None:
        self.mixtures: MixtureList = build_data(config).train
        self.stft = build(config, "stft")
        self.num_samples = self.stft.num_samples(config.trainer.excerpt_frames)
        self.batches = [range(i, i + config.trainer.batch_size) for i in range(0, count, config.trainer.batch_size)]
        self.loader = DataLoader(nussl_dataset(config, folder), batch_size=config.trainer.batch_size, shuffle=True)

    def waveforms(self) -> None:
        """Batches of mixed waveforms."""
        for indices in self.batches:
            assert self.mixtures.excerpts(indices, self.num_samples).mixture.any()

    def spectra(self) -> None:
        """Batches of spectrograms and targets, as the mask-inference loss reads them."""
        for indices in self.batches:
            batch = self.mixtures.excerpts(indices, self.num_samples)
            feats = features(batch.sources, self.stft, batch.noise)
            assert feats.mixture_magnitude.any() and feats.phase_sensitive_targets.any()

    def nussls(self) -> None:
        """The same by nussl."""
        for batch in self.loader:
            assert batch["mix_magnitude"].any() and batch["source_magnitudes"].any()


def write_flac(mixtures: MixtureList, root: Path, minutes: float) -> float:
    """Writes a corpus's speech as LibriSpeech's files; returns their seconds."""
    store = mixtures.store
    speech = np.concatenate([store.read(utterance, 0, utterance.num_samples) for utterance in store.utterances[:200]])
    speech = audio.resample(speech, store.sample_rate, FLAC_RATE)
    length = min(FLAC_SECONDS * FLAC_RATE, len(speech) - 1)
    count = max(3 * SPEAKERS, round(minutes * 60 * FLAC_RATE / length))
    for number in range(count):
        speaker = str(100 + number % SPEAKERS)
        subset = "test-clean" if number % SPEAKERS < SPEAKERS // 2 else "train-clean-100"
        path = root / subset / speaker / "1" / f"{speaker}-1-{number:04}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * FLAC_RATE // 3 % (len(speech) - length)
        soundfile.write(path, speech[start : start + length], FLAC_RATE)
    return count * length / FLAC_RATE


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "bench_data")
    logging.disable()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        config = compose_config("config", ["threads=1", *overrides, f"data.store={root}/store"])
        set_threads(config)
        write_mixtures(config, program.num_mixtures, root / "wav")
        readers = Readers(config, root / "wav", program.num_mixtures)
        functions = {
            "mixed waveforms": readers.waveforms,
            "with spectrograms and targets": readers.spectra,
            "nussl: spectrograms and targets": readers.nussls,
        }
        medians = alternating(list(functions.values()), program.repetitions, "reading")
        rates = {name: program.num_mixtures / median for name, median in zip(functions, medians, strict=True)}
        audio_seconds = write_flac(readers.mixtures, root / "flac", program.flac_minutes)
        builds = []
        for number in range(3):
            corpus = LibriSpeechCorpus(
                root=str(root / "flac"), store=str(root / f"store{number}"), num_train=1, num_valid=1, num_test=1
            )
            builds.append(seconds(partial(open_store, corpus)))
    results: dict[str, Any] = {
        "batch": f"{config.trainer.batch_size} x {config.trainer.excerpt_frames} frames",
        "items_a_second": rates,
        "store_times_real_time": audio_seconds / sorted(builds)[1],
        "store_minutes": audio_seconds / 60,
    }
    peer = rates["nussl: spectrograms and targets"]
    rows = [[name, f"{rate:,.0f}", f"{rate / peer:.1f}"] for name, rate in rates.items()]
    print(table([f"{results['batch']}, one thread", "items a second", "times nussl's"], rows))
    print(f"\nstore from 16 kHz FLAC: {results['store_times_real_time']:,.0f} times real time")
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
