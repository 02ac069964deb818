"""A corpus without a download: sentences spoken by the espeak-ng synthesiser in up to 80 distinct voices."""

# A child process runs this module to speak one voice. It must start quickly, so what only the parent needs is imported
# where the parent needs it.
import ctypes
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from separation.data.corpora.corpus import TEST, TEST_UNKNOWN, TRAIN, VALID, Corpus, Recording
from separation.data.corpora.demo_sentences import first_sentences
from separation.errors import InputError

VERSION = 1
"""To be raised by any change to voices, sentences or signal processing that alters the recordings."""
SENTENCES = range(8, 1001)
ESPEAK_RATE = 22050
VOLUME = 20  # per cent; above 30 the loudest voices are limited inside espeak-ng
TIMEOUT_SECONDS = 1800


class Voice(NamedTuple):
    """espeak-ng's accent, its variant (timbre), words per minute, and pitch from 0 to 99 (50: the variant's own)."""

    accent: str
    variant: str
    rate: int
    pitch: int


def _voices(table: str) -> tuple[Voice, ...]:
    accents = {"us": "en-us", "ny": "en-us-nyc", "gb": "en", "rp": "en-gb-x-rp", "la": "en-gb-x-gbclan"}
    accents |= {"wm": "en-gb-x-gbcwmd", "sc": "en-gb-scotland", "cb": "en-029"}
    rows = (row.split() for line in table.strip().splitlines() for row in line.split("|"))
    return tuple(Voice(accents[accent], variant, int(rate), int(pitch)) for accent, variant, rate, pitch in rows)


# Men and women in turn. Each voice was chosen to differ from all before it in median fundamental frequency and
# long-term spectrum, the first eight by hand: natural timbres, fundamentals 2 to 3 semitones apart, 80 to 245 Hz.
# Rates are such that each voice needs about 2.6 s per sentence. No unknown voice shares its timbre with a known one.
KNOWN_VOICES = _voices("""
us m1 200 56      | gb f2 185 60      | ny antonio 160 76 | rp linda 180 34
la paul 210 44    | wm Andrea 155 50  | gb pedro 155 68   | sc f3 195 20
rp norbert 180 80 | cb f5 195 80      | wm travis 185 32  | us grandma 205 80
sc Andy 205 80    | ny Alicia 210 56  | cb ed 195 68      | la Annie 185 56
us m8 200 80      | gb steph 180 56   | ny marcelo 180 44 | rp shelby 200 56
la miguel 190 44  | wm anika 165 56   | gb norbert 185 44 | sc shelby 190 80
rp travis 195 80  | cb grandma 180 44 | wm gustave 205 80 | us steph 190 68
ny Andy 205 44    | rp Alicia 205 32  | cb antonio 150 32 | la anika 160 44
us boris 185 32   | gb linda 205 44   | ny Lee 190 56     | rp f2 200 80
la Lee 205 80     | us Andrea 155 20  | gb quincy 195 56  | sc Annie 175 20
rp ed 205 20      | la f5 195 68      | us gustave 190 56 | us f3 205 80
sc m8 180 56      | ny steph 190 80   | cb boris 180 68   | la grandma 205 68
us miguel 205 68  | gb Alicia 210 44  | ny m2 200 80      | cb linda 185 68
la m7 200 56      | gb Andrea 145 56  | gb pablo 185 44   | ny shelby 200 68
rp pablo 190 20   | cb Annie 195 44   | wm Nguyen 185 32  | us f5 205 32
sc Michael 190 44 | ny f3 180 44      | cb Michael 205 20 | la f2 195 68
us Gene 200 68    | sc steph 175 44   | ny Mario 180 80   | la linda 200 20
la Gene 185 44    | wm Alicia 215 20  | gb m2 190 56      | sc Andrea 160 32
""")
UNKNOWN_VOICES = _voices("""
gb m6 200 32      | sc belinda 175 56 | rp robert 195 80  | cb f4 185 36
wm Alex 205 58    | us f1 195 58      | sc m3 180 50      | ny aunty 200 64
""")
VOICES = range(2, len(KNOWN_VOICES) + 1)


@dataclass(frozen=True, kw_only=True)
class DemoCorpus(Corpus):
    """Synthetic English speech, generated in seconds.

    No two recordings say the same sentence. What a voice says and how it sounds depends on `sentences` and
    `sample_rate` alone, not on the other settings or the number of processes.

    Args:
        voices: number of voices in the splits `train`, `valid` and `test`.
        first_voice: the first of these, out of 80 in all, counted from 0.
        unknown_voices: number of further voices, which only `test_unknown` holds.
        sentences: training sentences per known voice, each about 1.5 to 3.5 s long; `valid` gets an eighth as many,
            `test` and `test_unknown` a quarter as many.

    Raises:
        InputError: a setting is out of range; the message names its key.
    """

    voices: int = 8
    first_voice: int = 0
    unknown_voices: int = 8
    sentences: int = 160

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = {
            "voices": VOICES,
            "first_voice": range(len(KNOWN_VOICES) - VOICES[0] + 1),
            "unknown_voices": range(len(UNKNOWN_VOICES) + 1),
            "sentences": SENTENCES,
        }
        for key, values in allowed.items():
            value = getattr(self, key)
            if type(value) is not int or value not in values:
                raise InputError(f"data.{key}={value}: must be a whole number from {values[0]} to {values[-1]}")
        if self.first_voice + self.voices > len(KNOWN_VOICES):
            raise InputError(
                f"data.first_voice={self.first_voice}: {self.voices} voices from there on are more than there are; take"
                f" {len(KNOWN_VOICES) - self.voices} at most, or a smaller data.voices"
            )

    @property
    def name(self) -> str:
        return "demo"

    def sexes(self) -> dict[str, str]:
        # KNOWN_VOICES and UNKNOWN_VOICES have them in turn.
        counts = {"voice": self.voices, "unknown": self.unknown_voices}
        return {f"{name}{i:02}": "MF"[i % 2] for name, count in counts.items() for i in range(count)}

    def fingerprint(self) -> dict[str, Any]:
        return {
            **({"first_voice": self.first_voice} if self.first_voice else {}),  # which stores without it hadn't
            "voices": self.voices,
            "unknown_voices": self.unknown_voices,
            "sentences": self.sentences,
            "version": VERSION,
            "espeakng-loader": _loader_version(),
        }

    def recordings(self, done: Collection[str] = ()) -> Iterator[Recording]:
        from tqdm import tqdm

        from separation.data import audio

        _loader_version()
        known = {TRAIN: self.sentences, VALID: self.sentences // 8, TEST: self.sentences // 4}
        unknown = {TEST_UNKNOWN: self.sentences // 4}
        # Every voice, spoken or not, has its own sentences: each count-th of the list, one after another.
        count = len(KNOWN_VOICES) + len(UNKNOWN_VOICES)
        texts = first_sentences(count * sum(known.values()))
        numbers = range(self.first_voice, self.first_voice + self.voices)
        jobs = [(f"voice{i:02}", KNOWN_VOICES[i], texts[i::count], known) for i in numbers]
        for i, voice in enumerate(UNKNOWN_VOICES[: self.unknown_voices]):
            jobs.append((f"unknown{i:02}", voice, texts[len(KNOWN_VOICES) + i :: count], unknown))
        # A voice speaks from the beginning, or not at all.
        jobs = [job for job in jobs if f"{job[0]}/{sum(job[3].values()) - 1:04}" not in done]

        workers = os.cpu_count() or 1
        spoken: deque[Future[list[np.ndarray]]] = deque()
        waiting = iter(jobs)
        with ThreadPoolExecutor(workers) as pool:
            for speaker, _, _, splits in tqdm(jobs, desc="Speaking the demo corpus", unit="voice", disable=None):
                # The children run at most a few voices ahead, so that memory doesn't grow with the corpus.
                while len(spoken) <= workers and (job := next(waiting, None)):
                    spoken.append(pool.submit(_speak, job[1], job[2][: sum(job[3].values())]))
                labels = [split for split, number in splits.items() for _ in range(number)]
                for number, (split, steps) in enumerate(zip(labels, spoken.popleft().result(), strict=True)):
                    name = f"{speaker}/{number:04}"
                    if name not in done:
                        samples = audio.resample(steps / np.float32(32768), ESPEAK_RATE, self.sample_rate)
                        yield Recording(name, speaker, split, samples)


def _loader_version() -> str:
    try:
        return importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            "data=demo: the demo corpus needs espeak-ng; install it with: pip install espeakng-loader"
        ) from error


def _speak(voice: Voice, texts: list[str]) -> list[np.ndarray]:
    """Has a child process speak `texts`; returns 16-bit samples at ESPEAK_RATE, shape (time,) each.

    espeak-ng carries state (its noise, its pitch contour) from one sentence to the next, so every voice gets a fresh
    process and always speaks the same sentences in the same order. The process is a plain one: `multiprocessing`
    would import the calling script again, which fails in notebooks, in scripts without a main guard, and in workers
    that may have no children.

    Raises:
        InputError: the process failed, died or didn't finish.
    """
    root = str(Path(__file__).parents[2])
    try:
        child = subprocess.run(
            [sys.executable, "-c", "from separation.data.corpora import demo; demo.child_main()"],
            input=json.dumps([voice, texts]).encode(),
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])},
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )
        problem = f"exit status {child.returncode}: {''.join(child.stderr.decode(errors='replace').splitlines()[-1:])}"
        head, _, body = child.stdout.partition(b"\n")
        if child.returncode == 0:
            ends = np.cumsum(json.loads(head))
            return np.split(np.frombuffer(body, np.int16, count=ends[-1]), ends[:-1])
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        problem = str(error)
    raise InputError(
        f"data=demo: espeak-ng failed to speak as {voice.accent}+{voice.variant} ({problem});"
        " reinstall it with: pip install --force-reinstall espeakng-loader"
    )


def child_main() -> None:
    """The child process: reads a voice and its texts from stdin, writes lengths (one JSON line) and samples to stdout.

    Raises:
        RuntimeError: espeak-ng refused the voice or a text.
    """
    import espeakng_loader

    voice, texts = json.load(sys.stdin)
    accent, variant, rate, pitch = voice
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = Path(espeakng_loader.get_data_path())
    # From inside the folder, since espeak-ng cuts its data's path off at 160 characters.
    os.chdir(data.parent)
    synchronous, dont_exit = 2, 0x8000
    if library.espeak_Initialize(synchronous, 0, b".", dont_exit) != ESPEAK_RATE:
        raise RuntimeError(f"espeak-ng can't use its data in {data}")
    # espeak-ng speaks with the plain accent, without an error, where it doesn't find a variant.
    known_variant = variant in os.listdir(data / "voices" / "!v")
    if not known_variant or library.espeak_SetVoiceByName(f"{accent}+{variant}".encode()):
        raise RuntimeError(f"espeak-ng has no voice {accent}+{variant}")
    for parameter, value in {1: rate, 2: VOLUME, 3: pitch}.items():
        library.espeak_SetParameter(parameter, value, 0)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # breath noise is seeded by the clock otherwise

    chunks: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)  # type: ignore[untyped-decorator]
    def receive(samples: int | None, count: int, _events: int) -> int:
        if samples and count:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(receive)
    recordings = []
    for text in texts:
        chunks.clear()
        encoded = text.encode()
        status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, 1, None, None)
        samples = np.frombuffer(b"".join(chunks), np.int16)
        level = np.abs(samples.astype(np.int32))
        if status or not level.any():
            raise RuntimeError(f"espeak-ng didn't speak {text!r}")
        audible = np.flatnonzero(level > 0.01 * level.max())
        recordings.append(samples[audible[0] : audible[-1] + 1])
    sys.stdout.buffer.write(json.dumps([len(recording) for recording in recordings]).encode() + b"\n")
    sys.stdout.buffer.writelines(recording.tobytes() for recording in recordings)
