"""Run folders as training leaves them, made without training."""

import csv
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from omegaconf import DictConfig

from separation.app.settings import compose_config
from separation.runs.run_folder import RunFolder

RATE = 8000
SECONDS = 6.0
IMPROVEMENTS = {"best_a": (8.0, 6.0), "median_b": (3.0, 5.0), "worst_c": (-1.0, 0.5)}
"""In dB, of the two sources of three mixtures; their mean is 3.5833."""


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose_config("config", ["data=folder", "data.root=speech", "trainer.max_steps=200", *overrides])


def make_report_run(
    path: Path, *overrides: str, steps: int = 200, scored: bool = True, audio: bool = True, gain: float = 0.0
) -> RunFolder:
    """A run of two epochs whose loss is negative and rises to a spike at step 150; its scores are `IMPROVEMENTS` and
    a gain in dB."""
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    folder.save_config(
        compose_config("config", ["data=folder", "data.root=speech", "trainer.max_steps=200", *overrides])
    )
    header = ("step", "epoch", "train/loss", "train/grad_norm", "train/clip_threshold", "train/clip_coefficient")
    losses = [50.0 if step == 150 else -step / 10 for step in range(1, steps + 1)]
    rows = [(step, 0, loss, 2.0 + step, 10.0, min(1.0, 10 / (2.0 + step))) for step, loss in enumerate(losses, start=1)]
    write_csv(folder.steps, header, rows)
    header = ("epoch", "step", "valid/loss", "valid/si_sdr", "seconds")
    write_csv(folder.epochs, header, [(1, steps // 2, -1.5, 2.5, 30.0), (2, steps, -2.5, 4.25 + gain, 60.0)])
    scores = {name: tuple(value + gain for value in pair) for name, pair in IMPROVEMENTS.items()}
    if scored:
        header = ("split", "mixture", "source", "speaker", "si_sdr", "si_sdr_improvement")
        speakers = {"best_a": "ab", "median_b": "ac", "worst_c": "bc"}
        of_sources = [
            ("test", name, source, speakers[name][source], value + 0.1, value)
            for name, pair in scores.items()
            for source, value in enumerate(pair)
        ]
        write_csv(folder.scores, header, of_sources)
        mean = float(np.mean(list(scores.values())))
        counts = {"num_mixtures": 3, "num_speakers": 3, "num_known_speakers": 3, "input_si_sdr": 0.1}
        test = {**counts, "si_sdr": mean + 0.1, "si_sdr_improvement": mean}
        origin = {"command": "python train.py", "commit": "abc", "seed": 0, "machine": "x86", "date": "2026-01-01"}
        folder.summary.write_text(json.dumps({**test, "splits": {"test": test}, "provenance": origin}))
    if audio:
        for number, name in enumerate(scores):
            write_audio(folder.audio / name, number, seconds=SECONDS)
    return folder


def write_audio(folder: Path, number: int, seconds: float) -> None:
    """A mixture of two tones in noise; the estimates are the references, at half the level."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(number).standard_normal(round(seconds * RATE))
    time = np.arange(len(noise)) / RATE
    sources = [0.1 * np.sin(2 * np.pi * pitch * time) + 0.01 * noise for pitch in (300 + 10 * number, 1000)]
    signals = {"mixture": sources[0] + sources[1]}
    signals |= {f"reference_{source}": samples for source, samples in enumerate(sources, start=1)}
    signals |= {f"estimate_{source}": samples / 2 for source, samples in enumerate(sources, start=1)}
    for name, samples in signals.items():
        soundfile.write(folder / f"{name}.wav", samples.astype(np.float32), RATE, subtype="FLOAT")
