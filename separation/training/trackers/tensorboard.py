"""TensorBoard: events in the run folder. torch's SummaryWriter writes in a thread, whose errors none can catch."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from separation.errors import check_count
from separation.model.features import Stft
from separation.training.trackers.tracker import Row, Signal, TrackedRun

LONGEST_SECONDS = 4
"""Of a signal."""
RANGE, COLORS = 60, 32
"""Of a spectrogram: from its darkest to its brightest, in dB, and the number of its colours, which keeps it small."""


@dataclass
class TensorBoard:
    """One event for each row; the settings and the test scores for the tab "HParams"; audio and spectrograms.

    Args:
        num_examples: validation mixtures that can be heard and seen as they are after every epoch.
    """

    num_examples: int

    def __post_init__(self) -> None:
        check_count("logger.num_examples", self.num_examples, minimum=0, maximum=100)
        self._shown: set[str] = set()

    def begin(self, run: TrackedRun, step: int, identity: str | None) -> None:
        """Begins a file; events of later steps that another one has are no longer shown."""
        folder = run.folder.tensorboard
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 (see close)
        self._add(time.time(), file_version="brain.Event:2")
        if step:
            self._add(time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._add(time.time(), summary=hparams_pb(dict(run.settings), trial_id=run.name))

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in row.values.items()])
            self._add(row.time, step=row.step, summary=summary)
        self._writer.flush()

    def show(self, step: int, signals: Sequence[Signal]) -> None:
        """Adds each signal's audio and spectrogram; of what never changes, once."""
        values = []
        for signal in signals:
            if signal.tag in self._shown and "/estimate_" not in signal.tag:
                continue
            self._shown.add(signal.tag)
            signal = signal._replace(samples=signal.samples[: LONGEST_SECONDS * signal.rate])
            audio = Summary.Audio(
                sample_rate=signal.rate,
                num_channels=1,
                length_frames=len(signal.samples),
                encoded_audio_string=_wav(signal),
                content_type="audio/wav",
            )
            # Tags of their own: TensorBoard's fast loader takes all values of a tag for what its first one is.
            values += [
                Summary.Value(tag=signal.tag, audio=audio),
                Summary.Value(tag=f"{signal.tag}_spectrogram", image=_image(signal)),
            ]
        self._add(time.time(), step=step, summary=Summary(value=values))

    def finish(self, scores: Row) -> None:
        self.write([scores])

    def _add(self, when: float, **content: Any) -> None:
        self._writer.write(Event(wall_time=when, **content).SerializeToString())

    def close(self) -> None:
        with suppress(OSError):
            self._writer.close()


def _wav(signal: Signal) -> bytes:
    """A WAV file, at most at full scale."""
    import soundfile

    file = BytesIO()
    soundfile.write(file, signal.samples / max(1.0, float(np.abs(signal.samples).max())), signal.rate, format="WAV")
    return file.getvalue()


def _image(signal: Signal) -> Any:
    """The log-magnitude spectrogram, low frequencies below, as a PNG: a pixel for 8 ms and 31 Hz at 8 kHz."""
    import matplotlib
    from PIL import Image

    hop = max(1, signal.rate // 125)
    spectrum = Stft(window_length=4 * hop, hop_length=hop)(torch.from_numpy(signal.samples))
    magnitudes = np.nan_to_num(spectrum.abs().numpy().T[::-1])  # of a run that diverged there is nothing to see
    decibels = 20 * np.log10(magnitudes + 1e-10)
    levels = np.clip(1 + (decibels - decibels.max()) / RANGE, 0, 1) * (COLORS - 1)
    image = Image.fromarray(levels.astype(np.uint8))
    image.putpalette((255 * matplotlib.colormaps["magma"](np.linspace(0, 1, COLORS))[:, :3]).astype(np.uint8).tobytes())
    file = BytesIO()
    image.save(file, format="png")
    return Summary.Image(height=image.height, width=image.width, colorspace=3, encoded_image_string=file.getvalue())
