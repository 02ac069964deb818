"""Scored mixtures as audio files."""

from pathlib import Path

from torch import Tensor

from separation.data import audio
from separation.runs.untrusted_files import check_links


def write_audio(folder: Path, signals: dict[str, Tensor], sample_rate: int) -> None:
    """Writes a WAV file for each signal, shape (time,)."""
    check_links([folder, folder.parent])
    folder.mkdir(parents=True, exist_ok=True)
    for name, signal in signals.items():
        audio.write(folder / f"{name}.wav", signal.numpy(), sample_rate)
