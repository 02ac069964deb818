"""Separates recordings: `python separate.py run=RUN_DIR input=FILE_OR_FOLDER [output=FOLDER]`.

Each recording becomes one file a source, at its own rate and level, as 32-bit float WAV. conf/separate.yaml lists the
keys.
"""

from pathlib import Path

from tqdm import tqdm

from separation.app.assembly import build, load_model
from separation.app.command import entry_point
from separation.app.settings import arguments, compose_config, run_config, run_folder
from separation.data import audio
from separation.data.audio_files import AUDIO_SUFFIXES, audio_files
from separation.data.decoding import read
from separation.errors import InputError, check_number, check_path
from separation.evaluation.long_recordings import RecordingSeparator
from separation.runs.atomic_files import check_writable


def find_inputs(path: Path, output: Path) -> dict[Path, Path]:
    """Each recording, and where its sources go: below `output`, as the recording lies below the input folder."""
    if not path.exists():
        raise InputError(f"input={path}: no such file or folder")
    files = [path] if path.is_file() else audio_files(path)
    if not files:
        raise InputError(f"input={path}: holds no audio files ({', '.join(sorted(AUDIO_SUFFIXES))})")
    root = path.parent if path.is_file() else path
    if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
        raise InputError(f"output={output}: lies inside the input folder, whose files it could replace; choose another")
    targets: dict[Path, Path] = {}
    for file in files:
        target = output / file.relative_to(root).with_suffix("")
        if target in targets.values():
            raise InputError(f"{file}: another file has the same name up to its suffix; rename one of them")
        targets[file] = target
    return targets


def separate() -> None:
    """Separates the recordings and says where the files are."""
    program = compose_config("separate", arguments(__doc__, "separate"))
    folder = run_folder(program.run)
    for key in ("input", "output"):
        check_path(key, program[key])
    check_number("segment_seconds", program.segment_seconds, 1, 600)
    check_number("overlap_seconds", program.overlap_seconds, 0.1, program.segment_seconds / 2)
    config = run_config(folder, [f"device={program.device}"], program.separator)
    inputs = find_inputs(Path(program.input), Path(program.output))
    check_writable("output", Path(program.output))
    rate = config.data.sample_rate
    separator = RecordingSeparator(
        load_model(folder, config),
        sample_rate=rate,
        mixture_rms=build(config, "mixing").mixture_rms,
        segment=round(program.segment_seconds * rate),
        overlap=round(program.overlap_seconds * rate),
    )
    bar = tqdm(inputs.items(), unit="file", disable=None)
    for file, target in bar:
        samples, file_rate = read(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        for number, source in enumerate(separator(samples, file_rate), start=1):
            path = target.with_name(f"{target.name}_source{number}.wav")
            audio.write(path, source, file_rate)
            bar.write(str(path))


def main() -> None:
    """Separates as the command line says."""
    entry_point(separate)


if __name__ == "__main__":
    main()
