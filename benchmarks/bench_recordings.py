"""Long recordings: `python benchmarks/bench_recordings.py run=RUN_DIR [recordings=10] [minutes=60] [output=F.json]`.

Two test speakers talk at once, utterance by utterance, with noise of 1 to 20 s between: SI-SDR of each mixture
when the recording is separated as a whole (one order of the voices for all of it), beside that when each is separated
by itself. Then separate.py on so many minutes of 44.1 kHz stereo: peak memory, and CPU time by the recording's.
"""

import resource
import subprocess
import sys
import tempfile
from itertools import combinations, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from benchmark import settings, write_results

import separation
from separation.app.command import entry_point
from separation.app.model import Model
from separation.app.settings import run_config, run_data, run_folder
from separation.data import audio
from separation.data.mixtures import MixtureList
from separation.model.assignment import best_assignment
from separation.model.si_sdr import LIMIT_DB, si_sdr
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import decibels, table

ROOT = Path(__file__).parent.parent
STEREO_RATE = 44_100
PAUSE_SECONDS = (1.0, 20.0)
Parts = list[np.ndarray]
"""Mixtures' sources, shape (source, time) each."""


def conversations(mixtures: MixtureList, recordings: int, utterances: int) -> list[Parts]:
    """For each recording two speakers' utterances side by side, cut to the shorter, at the level of drawn mixtures."""
    speakers = sorted(mixtures.speakers())
    rms = mixtures.mixing.rms or 0.05
    by_speaker = {
        speaker: [u for u in mixtures.store.utterances if (u.speaker, u.split) == (speaker, mixtures.split)]
        for speaker in speakers
    }
    made = []
    for one, other in islice(cycle(combinations(speakers, 2)), recordings):
        parts = []
        for first, second in islice(zip(cycle(by_speaker[one]), cycle(by_speaker[other]), strict=False), utterances):
            length = min(first.num_samples, second.num_samples)
            read = [mixtures.store.read(each, 0, length) * (rms / each.rms) for each in (first, second)]
            parts.append(np.stack(read))
        made.append(parts)
    return made


def with_pauses(parts: Parts, rate: int, noise: float, random: np.random.Generator) -> tuple[np.ndarray, list[slice]]:
    """A mixture, shape (time,), and where its parts lie."""
    pieces, spans, end = [], [], 0
    for part in parts:
        pause = noise * random.standard_normal(round(random.uniform(*PAUSE_SECONDS) * rate))
        pieces += [pause, part.sum(0) + noise * random.standard_normal(part.shape[1])]
        spans.append(slice(end + len(pause), end + len(pause) + part.shape[1]))
        end = spans[-1].stop
    return np.concatenate(pieces).astype(np.float32), spans


def pairwise(estimates: torch.Tensor, part: np.ndarray) -> torch.Tensor:
    """SI-SDR of each estimate with each source, shape (estimate, source)."""
    return si_sdr(estimates.unsqueeze(1), torch.from_numpy(part).unsqueeze(0)).nan_to_num(nan=-LIMIT_DB)


def joins(model: Model, recordings: list[Parts], rate: int, noise: float) -> dict[str, float]:
    """Mean SI-SDR in dB of all parts, whole and one by one, and of the worst recording as a whole."""
    random, whole, alone = np.random.default_rng(0), [], []
    for parts in recordings:
        mixture, spans = with_pauses(parts, rate, noise, random)
        estimates = model.separate(mixture, rate)
        scores = torch.stack([pairwise(estimates[:, span], part) for span, part in zip(spans, parts, strict=True)])
        whole.append(-float(best_assignment(-scores.mean(0, keepdim=True))[0]))  # one order for all of it
        single = [pairwise(model.separate(mixture[span], rate), part) for span, part in zip(spans, parts, strict=True)]
        alone.append(-float(best_assignment(-torch.stack(single))[0].mean()))
    return {"one_by_one": float(np.mean(alone)), "whole": float(np.mean(whole)), "worst_whole": min(whole)}


def stereo(path: Path, recordings: list[Parts], rate: int, minutes: float) -> None:
    """Writes the conversations, both voices panned, until so many minutes are full."""
    random, left = np.random.default_rng(0), round(60 * minutes * STEREO_RATE)
    with soundfile.SoundFile(path, "w", STEREO_RATE, 2, "PCM_16") as file:
        for parts in cycle(recordings):
            for part in parts:
                pause = np.zeros((2, round(random.uniform(*PAUSE_SECONDS) * rate)), dtype=np.float32)
                sources = np.concatenate([pause, part], axis=1)
                sides = np.stack([sources[0] + 0.6 * sources[1], 0.6 * sources[0] + sources[1]], axis=1)
                block = audio.resample(sides.astype(np.float32), rate, STEREO_RATE)[:left]
                file.write(block)
                left -= len(block)
                if not left:
                    return


def separate_hours(run: RunFolder, folder: Path, minutes: float) -> dict[str, float]:
    """Peak memory and CPU time of separate.py on one thread."""
    command = [
        sys.executable,
        str(ROOT / "separate.py"),
        f"run={run.path}",
        f"input={folder}/long.wav",
        f"output={folder}/out",
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    return {"minutes": minutes, "peak_megabytes": used.ru_maxrss / 1e3, "cpu_by_duration": seconds / (60 * minutes)}


def main() -> None:
    """Measures, prints, and writes the results."""
    program, overrides = settings(__doc__, "bench_recordings")
    folder = run_folder(program.run)
    config = run_config(folder, overrides)
    [mixtures, *_] = run_data(config, overrides).tests
    rate = config.data.sample_rate
    recordings = conversations(mixtures, program.recordings, program.utterances)
    pieces = [f"{key}={program[key]}" for key in ("segment_seconds", "overlap_seconds")]
    model = separation.load(folder.path, [*pieces, f"device={config.device}"])
    results: dict[str, Any] = {"joins": {f"{n:g}": joins(model, recordings, rate, n) for n in program.noise}}
    rows = [[name, *map(decibels, scores.values())] for name, scores in results["joins"].items()]
    print(table(["noise in pauses (RMS)", "one by one [dB]", "whole [dB]", "worst recording [dB]"], rows))
    if program.minutes:
        with tempfile.TemporaryDirectory() as temporary:
            stereo(Path(temporary) / "long.wav", recordings, rate, program.minutes)
            results["memory"] = separate_hours(folder, Path(temporary), program.minutes)
        print(", ".join(f"{name} {value:.3g}" for name, value in results["memory"].items()))
    write_results(program.output, results)


if __name__ == "__main__":
    entry_point(main)
