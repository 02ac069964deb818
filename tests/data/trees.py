"""Every public corpus in little, in its own format: a few seconds of something like voices."""

import csv
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from conftest import voice

from separation.app.assembly import build_data
from separation.app.settings import compose_config
from separation.data.mixtures import Data

SECONDS = 0.8


def write(path: Path, samples: np.ndarray, rate: int, **settings: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **settings)
    return path


def speech(rate: int, name: object, seconds: float = SECONDS) -> np.ndarray:
    """Another one for each name."""
    seed = zlib.crc32(str(name).encode())
    return voice(100 + 7 * (seed % 23), seconds, rate, seed)


def sources(count: int, rate: int, name: object) -> list[np.ndarray]:
    """Of one mixture, at different levels and with steps of 16 bits."""
    levels = np.linspace(1, 0.6, count)
    return [np.round(level * speech(rate, (name, i)) * 2**15) / 2**15 for i, level in enumerate(levels)]


def mixture_folder(folder: Path, names: Sequence[str], rate: int, parts: dict[str, list[str]], **settings: str) -> None:
    """Files of the sources in s1, s2, ... (and of noise), and in each of `parts` the sum of the folders it lists."""
    count = max(int(name[1:]) for folders in parts.values() for name in folders if name != "noise")
    for number, name in enumerate(names):
        signals = {f"s{i + 1}": samples for i, samples in enumerate(sources(count, rate, (folder.name, number)))}
        signals["noise"] = (
            np.round(
                0.01
                * np.random.default_rng([number, *folder.name.encode()]).standard_normal(len(signals["s1"]))
                * 2**15
            )
            / 2**15
        )
        needed = {part for folders in parts.values() for part in folders}
        for part in needed:
            write(folder / part / f"{name}.wav", signals[part], rate, **settings)
        for part, folders in parts.items():
            write(folder / part / f"{name}.wav", sum(signals[part] for part in folders), rate, **settings)


def wsj_names(count: int, speakers: str, num_sources: int) -> list[str]:
    people = [f"0{letter}{letter}" for letter in speakers]
    return [
        "_".join(
            f"{people[(n + i) % len(people)]}c02{n:02}_{level:.4g}"
            for i, level in enumerate((1.1, -1.1, 0)[:num_sources])
        )
        for n in range(count)
    ]


def wsj0_mix(root: Path, num_sources: int = 2, rate: int = 8000, mode: str = "min") -> list[str]:
    for split, speakers, count in (("tr", "abc", 6), ("cv", "abc", 2), ("tt", "xyz", 2)):
        folder = root / f"{num_sources}speakers/wav{rate // 1000}k/{mode}/{split}"
        parts = {"mix": [f"s{i + 1}" for i in range(num_sources)]}
        mixture_folder(folder, wsj_names(count, speakers, num_sources), rate, parts, subtype="PCM_16")
    return ["data=wsj0_2mix", f"data.root={root}", f"mixing.num_sources={num_sources}", f"mixing.mode={mode}"]


def wham(root: Path, rate: int = 8000, mode: str = "min") -> list[str]:
    for split, speakers, count in (("tr", "abc", 6), ("cv", "abc", 2), ("tt", "xyz", 2)):
        parts = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"], "mix_single": ["s1", "noise"]}
        folder = root / f"wav{rate // 1000}k/{mode}/{split}"
        mixture_folder(folder, wsj_names(count, speakers, 2), rate, parts, subtype="FLOAT")
    return ["data=wham", f"data.root={root}", f"mixing.mode={mode}", f"data.sample_rate={rate}"]


def libri_names(count: int, first_speaker: int) -> list[str]:
    return [f"{first_speaker + n % 3}-{n}-0001_{first_speaker + (n + 1) % 3}-{n}-0002" for n in range(count)]


def libri2mix(root: Path) -> list[str]:
    parts = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"], "mix_single": ["s1", "noise"]}
    for split, speaker, count in (("train-100", 100, 6), ("dev", 200, 2), ("test", 300, 2)):
        mixture_folder(root / f"Libri2Mix/wav8k/min/{split}", libri_names(count, speaker), 8000, parts)
    return ["data=libri2mix", f"data.root={root}"]


def minilibrimix(root: Path) -> list[str]:
    parts = {"mix_clean": ["s1", "s2"], "mix_both": ["s1", "s2", "noise"]}
    for split, speaker, count in (("train", 100, 6), ("val", 200, 4)):
        mixture_folder(root / f"MiniLibriMix/{split}", libri_names(count, speaker), 8000, parts)
    return ["data=minilibrimix", f"data.root={root}"]


def librispeech(root: Path, subsets: dict[str, int] | None = None) -> list[str]:
    for subset, speaker in (subsets or {"train-clean-100": 100, "test-clean": 300}).items():
        for person in range(speaker, speaker + 3):
            for number in range(4):
                name = f"{person}-{person}7-{number:04}"
                seconds = SECONDS + 0.1 * number
                write(
                    root / f"LibriSpeech/{subset}/{person}/{person}7/{name}.flac",
                    speech(16_000, name, seconds),
                    16_000,
                )
    return ["data=librispeech", f"data.root={root}"]


def libri2mix_tables(root: Path) -> list[str]:
    """LibriSpeech and tables of gains."""
    subsets = {"train-clean-100": 100, "dev-clean": 200, "test-clean": 300}
    librispeech(root, subsets)
    for subset, speaker in subsets.items():
        rows = []
        for number in range(6):
            people = [speaker + number % 3, speaker + (number + 1) % 3]
            utterances = [f"{p}-{p}7-{(number + i) % 4:04}" for i, p in enumerate(people)]
            row = {"mixture_ID": "_".join(utterances)}
            for i, (person, utterance) in enumerate(zip(people, utterances, strict=True), start=1):
                row[f"source_{i}_path"] = f"{subset}/{person}/{person}7/{utterance}.flac"
                row[f"source_{i}_gain"] = str(0.9 + 0.13 * number - 0.2 * i)
            rows.append({**row, "noise_path": f"tr/{number}.wav", "noise_gain": "0.5"})
        write_table(root / f"tables/libri2mix_{subset}.csv", rows)
    return ["data=libri2mix", f"data.root={root}", f"data.metadata={root}/tables"]


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def tables(root: Path) -> list[str]:
    """Own files of several rates, in LibriMix's columns."""
    for split in ("train", "valid", "test"):
        rows = []
        for number in range(4):
            row = {"mixture_ID": f"{split} {number}"}
            for i in (1, 2):
                path = f"{split}/{number}_{i}.wav"
                write(root / path, speech(8000 * i, path), 8000 * i)
                row |= {f"source_{i}_path": path, f"source_{i}_speaker": f"{number}{i}"}
            rows.append(row)
        write_table(root / f"{split}.csv", rows)
    return [
        "data=csv",
        f"data.root={root}",
        *(f"data.{split}={root}/{split}.csv" for split in ("train", "valid", "test")),
    ]


def vctk(root: Path) -> list[str]:
    for person in ("p225", "p226", "p227", "p280", "s5"):
        for number in range(1, 5):
            for microphone in ("mic1", "mic2"):
                if (person, microphone) != ("p280", "mic2"):
                    name = f"wav48_silence_trimmed/{person}/{person}_{number:03}_{microphone}.flac"
                    write(root / name, speech(48_000, name), 48_000)
    return ["data=vctk", f"data.root={root}", "data.held_out=[p225,s5]"]


def stems(title: str, seconds: float = 2.4) -> dict[str, np.ndarray]:
    """Four stereo stems, 44.1 kHz, shape (time, channel); in 16 bits, so that their sum is exact."""
    names = ("vocals", "drums", "bass", "other")
    mono = {name: speech(44_100, (title, name), seconds) for name in names}
    return {name: np.round(np.stack([x, 0.5 * x], 1) * 2**15) / 2**15 for name, x in mono.items()}


TRACKS = {"train": ["A - One", "B - Two", "ANiMAL - Rockshow"], "test": ["C - Three"]}


def musdb18hq(root: Path) -> list[str]:
    for part, titles in TRACKS.items():
        for title in titles:
            own = stems(title)
            for name, samples in {**own, "mixture": sum(own.values())}.items():
                write(root / part / title / f"{name}.wav", samples, 44_100)
    return ["data=musdb18hq", f"data.root={root}", "data.segment_seconds=1"]


def musdb18(root: Path) -> list[str]:
    import av

    for part, titles in TRACKS.items():
        (root / part).mkdir(parents=True)
        for title in titles:
            own = stems(title)
            signals = [sum(own.values()), own["drums"], own["bass"], own["other"], own["vocals"]]
            with av.open(str(root / part / f"{title}.stem.mp4"), "w", format="mp4") as container:
                streams = [container.add_stream("aac", rate=44_100, layout="stereo") for _ in signals]
                for stream, samples in zip(streams, signals, strict=True):
                    stream.bit_rate = 256_000
                    for start in range(0, len(samples), 1024):
                        block = samples[start : start + 1024].T.astype(np.float32)
                        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "stereo")
                        frame.sample_rate, frame.pts = 44_100, start
                        container.mux(stream.encode(frame))
                    container.mux(stream.encode(None))
    return ["data=musdb18", f"data.root={root}", "data.segment_seconds=1"]


def fsdd(root: Path) -> list[str]:
    for number, speaker in enumerate(["george", "jackson", "theo"]):
        for index in range(12):
            write(
                root / f"recordings/{index % 10}_{speaker}_{index}.wav",
                voice(110 + 60 * number, 0.5, 8000, index),
                8000,
            )
    return ["data=fsdd", f"data.root={root}"]


def folder(root: Path) -> list[str]:
    for speaker in range(3):
        for number in range(4):
            write(root / f"speaker{speaker}/{number}.ogg", speech(22_050, (speaker, number)), 22_050)
    return ["data=folder", f"data.root={root}"]


FORMATS: dict[str, Callable[[Path], list[str]]] = {
    "librispeech": librispeech,
    "libri2mix": libri2mix,
    "libri2mix_tables": libri2mix_tables,
    "minilibrimix": minilibrimix,
    "wsj0_2mix": wsj0_mix,
    "wham": wham,
    "vctk": vctk,
    "musdb18hq": musdb18hq,
    "musdb18": musdb18,
    "csv": tables,
    "fsdd": fsdd,
    "folder": folder,
}
"""Each makes a corpus below a folder and returns the overrides that choose it."""


def make_data(overrides: list[str], tmp_path: Path, *more: str) -> Data:
    return build_data(compose_config("config", [*overrides, f"data.store={tmp_path}/store", *more]))
