"""Mixtures to listen to: of each a player and a spectrogram for the mixture, the references, and the estimates of the
runs that have it."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
import torch
from PIL import Image

from separation.data.decoding import read
from separation.errors import InputError
from separation.model.features import Stft
from separation.report.runs import ReportedRun
from separation.runs.paths import printable
from separation.runs.summaries import decibels
from separation.studies.run_figures import DYNAMIC_RANGE_DB

SECONDS = (3.0, 10.0)
"""Of each signal, at least and at most."""
MOST_COMPARED = 6
"""Runs whose estimates of a mixture stand side by side."""
WHICH = ("best", "median", "worst")
IMAGE_SIZE = (360, 128)
PEAK = 0.9
PICTURE, MARKUP = 12_000, 1500
"""Bytes of a signal's picture, about, and of what stands around it, at most."""
BYTES_A_SAMPLE = 2 * 4 / 3
"""16 bits, in base64."""


@dataclass(frozen=True)
class Signal:
    """A player and its spectrogram, as data URIs."""

    title: str
    note: str
    audio: str
    image: str


@dataclass
class Example:
    """A mixture of a test split, as files of one run or of several.

    Attributes:
        folders: of the runs, by their numbers.
        titles: how good each run is at it, as in "best: 8.31 dB, rank 1 of 20".
        num_samples, rate: of the files; rate in Hz.
    """

    split: str
    mixture: str
    folders: dict[int, Path]
    titles: dict[int, str]
    num_samples: int
    rate: int
    originals: list[Signal] = field(default_factory=list)
    """The mixture and the references."""
    estimates: dict[int, list[Signal]] = field(default_factory=dict)
    """By the runs' numbers."""
    seconds: float = 0.0

    @property
    def heading(self) -> str:
        """As in "test: best mixture", of the first run."""
        which = next(iter(self.titles.values())).partition(":")[0]
        kind = f"{which} mixture" if which in WHICH else "mixture"
        return f"{self.split}: {kind}".removeprefix(": ")

    @property
    def num_signals(self) -> int:
        """Of all that can be heard."""
        count = len(_numbered(next(iter(self.folders.values())), "reference"))
        return 1 + count * (1 + len(self.folders))

    @property
    def full_seconds(self) -> float:
        """Of the files."""
        return self.num_samples / self.rate


def find_examples(runs: Sequence[ReportedRun]) -> list[Example]:
    """The mixtures in the runs' audio folders, those of the first run first, from its best to its worst; the same
    mixture of several runs is one example. Says in the runs' problems what can't be read."""
    examples: dict[tuple[str, str, str], Example] = {}
    for number, run in enumerate(runs):
        for _, folder, split, mixture, title in sorted(_folders(run), key=lambda item: (item[2], -item[0])):
            try:
                samples, rate = read(folder / "mixture.wav")
            except InputError as error:
                run.problems.append(_left_out(run, mixture, error))
                continue
            digest = hashlib.sha256(samples.tobytes()).hexdigest()  # the file's own would depend on its date
            new = Example(split, mixture, {}, {}, len(samples), rate)
            example = examples.setdefault((split, mixture, digest), new)
            if len(example.folders) < MOST_COMPARED:
                example.folders[number] = folder
                example.titles[number] = title
    return list(examples.values())


def _folders(run: ReportedRun) -> Iterator[tuple[float, Path, str, str, str]]:
    """Of each mixture in a run's audio folder the improvement in dB, folder, split, name, and title."""
    audio = run.summary.get("audio") if run.summary else None
    entries = (
        {entry.get("folder"): entry for entry in audio if isinstance(entry, dict)} if isinstance(audio, list) else {}
    )
    split_of = dict(zip(run.scores["mixture"], run.scores["split"], strict=True))
    for file in sorted(run.folder.audio.rglob("mixture.wav")):
        folder = file.parent
        if any(part.is_symlink() for part in (run.folder.audio, folder, *folder.glob("*.wav"))):
            continue  # of a stranger's run, could lead to any recording
        name = folder.relative_to(run.folder.audio).as_posix()
        entry = entries.get(f"audio/{name}", {})
        mixture, which = str(entry.get("mixture", printable(name))), str(entry.get("which", ""))
        split = str(entry.get("split", split_of.get(mixture, "")))
        scores = run.mixture_scores(split)
        if mixture not in scores:
            yield -np.inf, folder, split, mixture, which
            continue
        rank = f"rank {int((scores > scores[mixture]).sum()) + 1} of {len(scores)}"
        text = f"{which.replace('_', ' ')}: " if which else ""
        yield scores[mixture], folder, split, mixture, f"{text}{decibels(scores[mixture])} dB, {rank}"


def fill(examples: Sequence[Example], runs: Sequence[ReportedRun], room: int) -> list[Example]:
    """Reads the examples' signals, so long as there is room for all, and leaves out the last ones where even short ones
    are too much.

    Args:
        room: in bytes.
    """
    filled: list[Example] = []
    samples_a_second = sum(example.num_signals * example.rate for example in examples)
    left = room - (PICTURE + MARKUP) * sum(example.num_signals for example in examples)
    seconds = float(np.clip(left / max(BYTES_A_SAMPLE * samples_a_second, 1), *SECONDS))
    for example in examples:
        try:
            _read_signals(example, runs, seconds)
        except InputError as error:
            run = runs[next(iter(example.folders))]
            run.problems.append(_left_out(run, example.mixture, error))
            continue
        example.seconds = min(seconds, example.full_seconds)
        signals = [*example.originals, *(signal for of_run in example.estimates.values() for signal in of_run)]
        room -= sum(len(signal.audio) + len(signal.image) + MARKUP for signal in signals)
        if room < 0:
            break
        filled.append(example)
    return filled


def _left_out(run: ReportedRun, mixture: str, error: Exception) -> str:
    return printable(f"{run.name}: audio of {mixture} is left out: {' '.join(str(error).split())}")


def _read_signals(example: Example, runs: Sequence[ReportedRun], seconds: float) -> None:
    first, *_ = example.folders.values()
    scores = {number: _scores(runs[number], example) for number in example.folders}
    speakers = next(iter(scores.values()))

    def samples(files: Mapping[int, Path]) -> dict[int, np.ndarray]:
        return {source: _excerpt(file, example.rate, seconds) for source, file in files.items()}

    mixture = _excerpt(first / "mixture.wav", example.rate, seconds)
    references = samples(_numbered(first, "reference"))
    estimates = {number: samples(_numbered(folder, "estimate")) for number, folder in example.folders.items()}
    together = [mixture, *references.values(), *(signal for of_run in estimates.values() for signal in of_run.values())]
    peak = max(float(np.abs(signal).max()) for signal in together)
    level = float(np.abs(_stft(mixture)).max())

    def signal(title: str, note: str, samples: np.ndarray) -> Signal:
        louder = samples * (PEAK / peak if peak else 1)
        return Signal(title, note, _wav(louder, example.rate), _spectrogram(samples, level))

    example.originals = [signal("Mixture", "", mixture)]
    for source, reference in references.items():
        example.originals.append(signal(f"Reference {source}", speakers.get(source, ("", ""))[1], reference))
    spoken = any(speaker for _, speaker in speakers.values())
    for number, of_run in estimates.items():
        example.estimates[number] = [
            signal(f"{'Voice' if spoken else 'Estimate'} {source}", scores[number].get(source, ("", ""))[0], estimate)
            for source, estimate in of_run.items()
        ]


def _scores(run: ReportedRun, example: Example) -> dict[int, tuple[str, str]]:
    """By source, from 1 on: what to say of the estimate and of the reference."""
    rows = run.scores[(run.scores["split"] == example.split) & (run.scores["mixture"] == example.mixture)]
    texts = {}
    for row in rows.itertuples():
        score = f"SI-SDR {decibels(row.si_sdr)} dB, improvement {decibels(row.si_sdr_improvement)} dB"
        texts[int(row.source) + 1] = score, f"speaker {row.speaker}" if row.speaker else ""
    return texts


def _numbered(folder: Path, kind: str) -> dict[int, Path]:
    """Files such as estimate_1.wav by their numbers."""
    files = {file.stem.rpartition("_")[2]: file for file in folder.glob(f"{kind}_*.wav")}
    return {
        int(number): file
        for number, file in sorted(files.items(), key=lambda item: item[0].zfill(9))
        if number.isdecimal()
    }


def _excerpt(file: Path, rate: int, seconds: float) -> np.ndarray:
    """The beginning of a file, shape (time,).

    Raises:
        InputError: it is damaged, or has another rate than the mixture.
    """
    samples, file_rate = read(file)
    if file_rate != rate:
        raise InputError(f"{file.name} has {file_rate} Hz, the mixture {rate} Hz")
    return samples[: max(1, round(seconds * rate)), 0]


def _wav(samples: np.ndarray, rate: int) -> str:
    """Without loss, since artefacts of a codec would be heard as the network's; Chromium can't seek in FLAC that has no
    seek table, and libsndfile writes none."""
    file = BytesIO()
    soundfile.write(file, samples, rate, subtype="PCM_16", format="WAV")
    return f"data:audio/wav;base64,{b64encode(file.getvalue()).decode()}"


def _stft(samples: np.ndarray) -> np.ndarray:
    """Shape (frequency, frame)."""
    return Stft()(torch.from_numpy(samples)).numpy().T


def _spectrogram(samples: np.ndarray, peak: float) -> str:
    """Log magnitude below the mixture's peak, as a picture."""
    decibels_below = 20 * np.log10(np.abs(_stft(samples)) / max(peak, 1e-10) + 1e-10)
    shades = np.clip(1 + decibels_below[::-1] / DYNAMIC_RANGE_DB, 0, 1)
    picture = Image.fromarray(matplotlib.colormaps["magma"](shades, bytes=True)[..., :3])
    file = BytesIO()
    picture.resize(IMAGE_SIZE, Image.Resampling.LANCZOS).save(file, "webp", quality=50)
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"
