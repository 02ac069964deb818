"""Separates recordings: `python separate.py run=RUN_DIR input=FILE_OR_FOLDER [output=FOLDER]`.

Each recording becomes one file a source, at its own rate and level. conf/separate.yaml lists the keys.
"""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from separation.app.assembly import set_threads
from separation.app.command import entry_point, print_error, sentence
from separation.app.model import Model, warn_of_doubts
from separation.app.settings import arguments, compose_config
from separation.data.audio_files import AUDIO_SUFFIXES, audio_files
from separation.data.audio_stream import open_recording
from separation.data.audio_writer import FORMATS, suffix, writing
from separation.errors import InputError, check_choice, check_flag
from separation.evaluation.long_recordings import RecordingSeparator
from separation.runs.atomic_files import check_writable
from separation.runs.paths import printable, user_path

log = logging.getLogger(__name__)


def find_inputs(path: Path, output: Path) -> dict[Path, Path]:
    """Each recording, and the name that its sources' files begin with: below `output`, as the recording lies below the
    input folder. Where two differ in their suffixes alone, these stay in the names."""
    if not path.exists():
        raise InputError(f"input={path}: no such file or folder")
    files = [path] if path.is_file() else audio_files(path)
    if not files:
        raise InputError(f"input={path}: holds no audio files ({', '.join(sorted(AUDIO_SUFFIXES))})")
    root = path.parent if path.is_file() else path
    if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
        raise InputError(f"output={output}: lies inside the input folder, whose files it could replace; choose another")
    stems = [file.with_suffix("") for file in files]
    count = Counter(stems) + Counter(files)
    return {
        file: output / (stem if count[stem] == 1 else file).relative_to(root)
        for file, stem in zip(files, stems, strict=True)
    }


@dataclass(frozen=True)
class Outputs:
    """Where sources go, and as what.

    Args:
        num_sources: of each recording.
        audio_format: one of `FORMATS`.
    """

    num_sources: int
    audio_format: str

    def paths(self, target: Path) -> list[Path]:
        """The files of one recording."""
        numbers = range(1, self.num_sources + 1)
        return [target.with_name(f"{target.name}_source{number}{suffix(self.audio_format)}") for number in numbers]

    def check_new(self, targets: Sequence[Path]) -> None:
        """Raises InputError where files exist already."""
        existing = [path for target in targets for path in self.paths(target) if os.path.lexists(path)]
        if existing:
            more = f", and {len(existing) - 1} more" if len(existing) > 1 else ""
            raise InputError(f"{printable(existing[0])}: exists already{more}; give overwrite=true, or another output")


def separate_file(separator: RecordingSeparator, file: Path, target: Path, outputs: Outputs, bar: tqdm) -> float:
    """Separates one recording; returns its length in seconds."""
    recording = open_recording(file)
    survey = separator.survey(recording)
    seconds = survey.num_samples / recording.rate
    bar.reset(seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                writing(path, recording.rate, recording.channels, survey.num_samples, outputs.audio_format)
            )
            for path in outputs.paths(target)
        ]
        for sources in separator.separate(recording, survey):
            for writer, source in zip(writers, sources, strict=True):
                writer.write(source)
            bar.update(sources.shape[1] / recording.rate)
    warn_of_doubts(printable(file), survey)
    for writer in writers:
        if writer.num_clipped:
            log.warning("%s: %d samples were clipped; use format=wav", printable(writer.path), writer.num_clipped)
        bar.write(printable(writer.path))
    return seconds


def separate_files(separator: RecordingSeparator, inputs: dict[Path, Path], outputs: Outputs) -> None:
    """Separates all recordings that can be.

    Raises:
        InputError: some couldn't be; it names them.
    """
    begun, seconds, failures = time.perf_counter(), 0.0, list[str]()
    with tqdm(unit="s", unit_scale=True, disable=None) as bar:  # seconds of audio
        for number, (file, target) in enumerate(inputs.items(), start=1):
            bar.set_description(f"{number}/{len(inputs)}")
            try:
                seconds += separate_file(separator, file, target, outputs, bar)
            except Exception as error:
                if len(inputs) == 1:
                    raise
                text = sentence(error)
                name = "" if printable(file) in text else f"{printable(file)}: "
                with bar.external_write_mode():
                    print_error(error, name)
                failures.append(name + text)
    took = time.perf_counter() - begun
    if seconds:
        print(f"{seconds:.1f} s of audio in {took:.1f} s: real-time factor {took / seconds:.3f}", file=sys.stderr)
    if failures:
        raise InputError(f"{len(failures)} of {len(inputs)} recordings weren't separated:\n" + "\n".join(failures))


def separate() -> None:
    """Separates the recordings and says where the files are."""
    program = compose_config("separate", arguments(__doc__, "separate", positional=["run", "input"]))
    recordings, output = (user_path(key, program[key]) for key in ("input", "output"))
    check_choice("format", program.format, tuple(FORMATS))
    check_flag("overwrite", program.overwrite)
    set_threads(program)
    inputs = find_inputs(recordings, output)
    check_writable("output", output)
    model = Model.of(program)
    outputs = Outputs(model.num_sources, program.format)
    if not program.overwrite:
        outputs.check_new(list(inputs.values()))
    separate_files(model.separator, inputs, outputs)


def main() -> None:
    """Separates as the command line says."""
    entry_point(separate)


if __name__ == "__main__":
    main()
