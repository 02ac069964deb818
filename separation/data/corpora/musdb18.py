"""MUSDB18 and MUSDB18-HQ: 150 pieces of music as four stems."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from separation.data import audio
from separation.data.corpora import file_corpus
from separation.data.corpora.catalogue import Catalogue, Entry, ListedCorpus
from separation.data.corpora.corpus import TEST, TRAIN, VALID, ListedMixture
from separation.errors import InputError, check_count, check_number

VOCALS, DRUMS, BASS, OTHER = STEMS = ("vocals", "drums", "bass", "other")
STREAMS = {"mixture": 0, DRUMS: 1, BASS: 2, OTHER: 3, VOCALS: 4}
"""The audio streams of a .stem.mp4."""
SOURCES: dict[int, dict[str, tuple[str, ...]]] = {
    2: {VOCALS: (VOCALS,), "accompaniment": (DRUMS, BASS, OTHER)},
    4: {stem: (stem,) for stem in STEMS},
}
"""By the number of sources: the stems that each of them is the sum of."""
VALIDATION_TRACKS = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)
"""Those of the 100 training tracks that validate, by convention."""


@dataclass(frozen=True, kw_only=True)
class Musdb18HqCorpus(ListedCorpus):
    """`{train,test}/{track}/{mixture,vocals,drums,bass,other}.wav`, 44.1 kHz stereo, of which the mean is taken.

    Tracks are cut into equal mixtures; of the validation and test splits those are left out in which a source is
    silent.

    Args:
        num_sources: 2: vocals and accompaniment; 4: every stem.
        segment_seconds: longest mixture.
    """

    downloads = ("musdb18hq",)
    exact_sums = False
    native_rate = 44_100

    num_sources: int
    segment_seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("data.segment_seconds", self.segment_seconds, 1, 600)
        check_count("mixing.num_sources", self.num_sources)
        if self.num_sources not in SOURCES:
            raise InputError(
                f"mixing.num_sources={self.num_sources}: MUSDB18 has 2 (vocals, accompaniment) or 4 sources"
            )

    @property
    def name(self) -> str:
        return "musdb18hq"

    def list_files(self) -> Catalogue:
        root = file_corpus.corpus_root(self.root)
        catalogue = Catalogue([], {TRAIN: [], VALID: [], TEST: []})
        for part in (TRAIN, TEST):
            for track in self._tracks(root / part):
                split = VALID if self._title(track) in VALIDATION_TRACKS and part == TRAIN else part
                self._list_track(catalogue, split, track, f"{part}/{self._title(track)}")
        return catalogue

    def _list_track(self, catalogue: Catalogue, split: str, track: Path, name: str) -> None:
        sources = SOURCES[self.num_sources]
        for source, stems in sources.items():
            # No stem is a speaker: stems of different tracks aren't mixed.
            catalogue.entries.append(Entry(f"{name}/{source}", "", split, self._stems(track, stems)))
        seconds = self._seconds(track)
        count = math.ceil(seconds / self.segment_seconds)
        for number in range(count):
            catalogue.mixtures[split].append(
                ListedMixture(
                    name=f"{self._title(track)}#{number}",
                    sources=tuple(f"{name}/{source}" for source in sources),
                    gains=(1.0,) * len(sources),
                    file=self._mixture(track),
                    span=(number * seconds / count, (number + 1) * seconds / count),
                )
            )

    def _tracks(self, folder: Path) -> list[Path]:
        tracks = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
        if not tracks:
            raise InputError(f"{folder}: holds no tracks (folders with vocals.wav and so on); is it MUSDB18-HQ?")
        return tracks

    def _title(self, track: Path) -> str:
        return track.name

    def _stems(self, track: Path, stems: Sequence[str]) -> tuple[Path, ...]:
        return tuple(track / f"{stem}.wav" for stem in stems)

    def _mixture(self, track: Path) -> Path | None:
        return track / "mixture.wav"

    def _seconds(self, track: Path) -> float:
        [path] = self._stems(track, [VOCALS])
        try:
            return soundfile.info(path).duration
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: can't be read as audio ({error}); get the track again") from error


@dataclass(frozen=True, kw_only=True)
class Musdb18Corpus(Musdb18HqCorpus):
    """`{train,test}/{track}.stem.mp4`, five stereo streams of AAC: the mixture, drums, bass, other, vocals. The mixture
    isn't quite the sum of the others, since each is compressed by itself; we take the sum."""

    downloads = ("musdb18",)

    @property
    def name(self) -> str:
        return "musdb18"

    def decode(self, entry: Entry) -> np.ndarray:
        [path] = entry.paths
        stems = SOURCES[self.num_sources][entry.name.rpartition("/")[2]]
        return audio.read_mono(path, self.sample_rate, self.native_rate, decode=partial(read_streams, stems=stems))

    def _tracks(self, folder: Path) -> list[Path]:
        tracks = sorted(folder.glob("[!.]*.stem.mp4"))
        if not tracks:
            raise InputError(
                f"{folder}: holds no .stem.mp4 files; is it MUSDB18? (data=musdb18hq is for its WAV files)"
            )
        return tracks

    def _title(self, track: Path) -> str:
        return track.name.removesuffix(".stem.mp4")

    def _stems(self, track: Path, stems: Sequence[str]) -> tuple[Path, ...]:
        return (track,)

    def _mixture(self, track: Path) -> Path | None:
        return None

    def _seconds(self, track: Path) -> float:
        with _opened(track) as container:
            return float(container.duration or 0) / 1e6


def read_streams(path: Path, stems: Sequence[str]) -> tuple[np.ndarray, int]:
    """The sum of some stems of a .stem.mp4, shape (time, channel), and its rate in Hz.

    Raises:
        InputError: it can't be decoded, or PyAV is missing.
    """
    with _opened(path) as container:
        streams = [container.streams.audio[STREAMS[stem]] for stem in stems]
        frames: dict[int, list[np.ndarray]] = {stream.index: [] for stream in streams}
        for packet in container.demux(streams):
            frames[packet.stream.index].extend(frame.to_ndarray() for frame in packet.decode())
        parts = [np.concatenate(blocks, axis=1) for blocks in frames.values()]
        length = min(part.shape[1] for part in parts)
        return np.sum([part[:, :length] for part in parts], axis=0).T, streams[0].rate


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A .stem.mp4, by PyAV, which brings FFmpeg's libraries along."""
    try:
        import av
    except ImportError as error:
        raise InputError("data=musdb18: its .mp4 files need PyAV: pip install av; or take data=musdb18hq") from error
    try:
        with av.open(str(path)) as container:
            if len(container.streams.audio) != len(STREAMS):
                raise InputError(
                    f"{path}: holds {len(container.streams.audio)} streams, not {len(STREAMS)}; get it again"
                )
            yield container
    except (OSError, ValueError, MemoryError, av.FFmpegError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: can't be decoded ({error}); get the track again") from error
