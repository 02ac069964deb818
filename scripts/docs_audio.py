"""Writes an example as the documentation's audio: `python scripts/docs_audio.py RUN_DIR/audio/SPLIT/NAME [docs/audio]`.

Mixture, estimates and references become FLAC files of 16 bits, all at the gain that brings the loudest to -1 dB.
"""

import sys
from pathlib import Path

import soundfile

from separation.app.command import entry_point
from separation.data.decoding import read
from separation.errors import InputError

PEAK = 10 ** (-1 / 20)


def main() -> None:
    """Converts the folder's files."""
    if len(sys.argv) not in (2, 3) or {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    folder, output = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "docs/audio")
    signals = {file.stem: read(file) for file in sorted(folder.glob("*.wav"))}
    if "mixture" not in signals:
        raise InputError(f"{folder}: holds no mixture.wav; give one of the folders in a run's audio folder")
    loudest = max(abs(samples).max() for samples, _ in signals.values()) or 1.0
    output.mkdir(parents=True, exist_ok=True)
    for name, (samples, rate) in signals.items():
        soundfile.write(output / f"{name}.flac", samples * (PEAK / loudest), rate, subtype="PCM_16")
        print(output / f"{name}.flac")


if __name__ == "__main__":
    entry_point(main)
