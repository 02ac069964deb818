"""Whether training takes as long as it did: `python benchmarks/compare_checkouts.py checkout=FOLDER data=fsdd
data.root=FSDD [pairs=3] [output=FILE.json] [key=value ...]`.

Trains with this checkout and with another one, both on one thread. The two take turns of 1.5 s, in which the other is
stopped, so that neighbours on the machine slow both alike; in every other pair the other one begins. Prints the ratio
of the steps' medians and of all that a run does, from its start to its scores, of each pair.
"""

import csv
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark import settings, write_results

from separation.app.command import entry_point
from separation.errors import InputError, check_count

ROOT = Path(__file__).parent.parent
TURN_SECONDS = 1.5
FIRST_STEPS = 20
"""In which memory is laid out and Adam makes its moments."""


class TakenInTurns:
    """A training run that is stopped while it isn't its turn.

    Args:
        checkout: whose train.py it is.
        folder: of the run.
        overrides: its settings.
    """

    def __init__(self, checkout: Path, folder: Path, overrides: Sequence[str]) -> None:
        self.folder = folder
        self.seconds = 0.0
        path = os.pathsep.join([str(checkout), str(checkout / "gradclip" / "src")])
        command = [sys.executable, str(checkout / "train.py"), *overrides, f"run_dir={folder}", "threads=1"]
        self._process = subprocess.Popen(
            [*command, "trainer.progress=false", "evaluation.progress=false"],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        self._process.send_signal(signal.SIGSTOP)

    def take_turn(self) -> bool:
        """Runs for a while; returns whether it has ended.

        Raises:
            InputError: it has failed.
        """
        began = time.perf_counter()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(TURN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGSTOP)
        self.seconds += time.perf_counter() - began
        if self._process.returncode:
            raise InputError(f"checkout: a train.py ended with status {self._process.returncode}, and said why above")
        return self._process.returncode is not None

    def step_seconds(self) -> float:
        """The median of its steps."""
        with open(self.folder / "steps.csv", newline="") as file:
            seconds = [float(row["train/seconds"]) for row in csv.DictReader(file)]
        return statistics.median(seconds[FIRST_STEPS:] or seconds)

    def end(self) -> None:
        """Ends it, if it hasn't."""
        self._process.kill()
        self._process.wait()


def compare(other: Path, work: Path, overrides: Sequence[str], ours_begins: bool) -> tuple[float, float]:
    """Ratios of our steps and of our whole run to the other checkout's."""
    ours, theirs = (TakenInTurns(path, work / name, overrides) for path, name in ((ROOT, "ours"), (other, "theirs")))
    try:
        waiting = [ours, theirs] if ours_begins else [theirs, ours]
        while waiting:
            waiting = [run for run in waiting if not run.take_turn()]
    finally:
        for run in (ours, theirs):
            run.end()
    return ours.step_seconds() / theirs.step_seconds(), ours.seconds / theirs.seconds


def main() -> None:
    """Measures and prints; writes JSON where an output is named."""
    program, overrides = settings(__doc__, "compare_checkouts")
    check_count("pairs", program.pairs)
    other = Path(str(program.checkout)).absolute()
    if not (other / "train.py").is_file():
        raise InputError(f"checkout={program.checkout}: holds no train.py; give the folder of another checkout")
    pairs: list[tuple[float, float]] = []
    for number in range(program.pairs):
        with tempfile.TemporaryDirectory() as work:
            steps, whole = compare(other, Path(work), overrides, ours_begins=number % 2 == 0)
        pairs.append((steps, whole))
        print(f"pair {number + 1}: a step takes {steps:.3f} as long as there, the whole run {whole:.3f}", flush=True)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    print(f"medians: {medians[0]:.3f} and {medians[1]:.3f}")
    write_results(program.output, {"pairs": pairs, "steps": medians[0], "whole": medians[1]})


if __name__ == "__main__":
    entry_point(main)
