"""A trained model in Python: `separation.load(RUN).separate(RECORDING)`."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from separation.app.assembly import build, load_model
from separation.app.settings import run_config, run_folder
from separation.data.audio_stream import Recording, open_recording
from separation.data.decoding import RATES
from separation.errors import InputError, check_count, check_number
from separation.evaluation.long_recordings import RecordingSeparator, Survey
from separation.runs.paths import user_path

log = logging.getLogger(__name__)


class Model:
    """A trained model.

    Attributes:
        num_sources: that it separates.
        sample_rate: the rate it was trained at, in Hz; recordings may have any.
        separator: what separates recordings block by block, in bounded memory.
    """

    def __init__(self, separator: RecordingSeparator) -> None:
        self.separator = separator
        self.num_sources = separator.num_sources
        self.sample_rate = separator.sample_rate

    @classmethod
    def of(cls, program: DictConfig) -> "Model":
        """The model of a run.

        Args:
            program: the keys of conf/separate.yaml.

        Raises:
            InputError: a value isn't allowed, or the run can't be used.
        """
        folder = run_folder(program.run)
        check_number("segment_seconds", program.segment_seconds, 1, 600)
        check_number("pause_seconds", program.pause_seconds, 0.1, program.segment_seconds / 2)
        check_number("overlap_seconds", program.overlap_seconds, program.pause_seconds, program.segment_seconds / 2)
        check_number("pause_level", program.pause_level, 1, 120)
        config = run_config(folder, [f"device={program.device}"], program.separator, program.allow)
        return cls(
            RecordingSeparator(
                load_model(folder, config, program.weights),
                num_sources=config.model.num_sources,
                sample_rate=config.data.sample_rate,
                mixture_rms=build(config, "mixing").mixture_rms,
                segment_seconds=program.segment_seconds,
                overlap_seconds=program.overlap_seconds,
                pause_level=program.pause_level,
                pause_seconds=program.pause_seconds,
            )
        )

    def separate(self, recording: str | Path | Tensor | np.ndarray, rate: int | None = None) -> Tensor:
        """Separates a recording of any length, as separate.py does.

        Args:
            recording: an audio file; or samples, shape (time,) or (channel, time).
            rate: of samples, in Hz.

        Returns:
            The sources on the CPU, float32, shape (source, time) of samples without channels and of files with one,
            otherwise (source, channel, time); at the recording's rate and level.

        Raises:
            InputError: the file can't be read, or these are no samples.
        """
        if isinstance(recording, str | Path):
            name, has_channels = str(recording), False
            opened = open_recording(user_path("recording", name))
        else:
            samples = _samples(recording)
            check_count("rate", rate, *RATES)
            name, has_channels = "recording", samples.ndim == 2
            blocks = np.atleast_2d(samples).T
            opened = Recording(int(rate or 0), blocks.shape[1], lambda: iter([blocks]))
        survey = self.separator.survey(opened)
        joined = np.concatenate(list(self.separator.separate(opened, survey)), axis=1)
        warn_of_doubts(name, survey)
        sources = torch.from_numpy(joined).transpose(1, 2).contiguous()
        return sources if has_channels or opened.channels > 1 else sources.squeeze(1)


def warn_of_doubts(name: str, survey: Survey) -> None:
    """Says where a recording's voices may have changed places."""
    for start, end in survey.doubts:
        log.warning("%s: the voices may have changed places at %.1f to %.1f s", name, start, end)


def _samples(recording: Any) -> np.ndarray:
    """Samples as float32, shape (time,) or (channel, time)."""
    given = recording.detach().cpu().numpy() if isinstance(recording, Tensor) else recording
    if not isinstance(given, np.ndarray) or given.dtype.kind != "f":
        what = f"{given.dtype} samples" if isinstance(given, np.ndarray) else type(given).__name__
        raise InputError(f"recording: expected a file or floating-point samples, full scale 1, not {what}; convert it")
    if given.ndim not in (1, 2) or not given.size or (given.ndim == 2 and given.shape[0] > given.shape[1]):
        raise InputError(f"recording: expected samples of shape (time,) or (channel, time), not {given.shape}")
    if not np.isfinite(given).all():
        raise InputError("recording: holds NaN or infinite samples; replace them")
    return given.astype(np.float32)
