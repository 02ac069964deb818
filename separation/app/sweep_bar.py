"""A sweep on a terminal: a bar for all of its runs, and below it how far those under way are.

The runs may be processes of any launcher, so they leave a mark in the sweep's folder when they begin and when they end;
how far they are, their `steps.csv` says.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple, TextIO

from tqdm import tqdm

from separation.runs.run_folder import RunFolder, short_names

MARKS = ".runs"
"""Folder of a sweep with a file for each run that has begun."""
SHOWN = "SEPARATION_SWEEP_BAR"
"""Environment variable that tells a sweep's runs to leave the terminal to its bar."""
SECONDS = 2.0
"""From one look at the runs to the next."""


class Mark(NamedTuple):
    """What a run leaves: its folder below the sweep's, whether it has ended, and how many steps it has in all."""

    folder: str
    has_ended: bool
    steps: int | None


def leave_mark(sweep: Path, number: int, mark: Mark) -> None:
    """Says that a sweep's run has begun or ended."""
    with suppress(OSError):  # a run is worth more than its mark
        (sweep / MARKS).mkdir(exist_ok=True)
        temporary = sweep / MARKS / f".{number}"
        temporary.write_text(json.dumps(mark), encoding="utf-8")
        temporary.replace(sweep / MARKS / str(number))


def read_marks(sweep: Path) -> list[Mark]:
    """The runs that have begun, in their order."""
    files = sorted((sweep / MARKS).glob("[0-9]*"), key=lambda file: int(file.name))
    return [Mark(*json.loads(file.read_text(encoding="utf-8"))) for file in files]


def last_step(folder: RunFolder) -> int:
    """The last step in a run's `steps.csv`; 0 where there is none."""
    try:
        with open(folder.steps, "rb") as file:
            file.seek(max(0, os.path.getsize(folder.steps) - 1000))
            lines = file.read().splitlines()
        return int(lines[-1].partition(b",")[0])
    except (OSError, ValueError, IndexError):
        return 0


class SweepBar:
    """The bar, which a thread keeps up to date.

    Args:
        sweep: folder of the sweep.
        total: number of its runs; None: nobody knows.
        file: the terminal.
    """

    def __init__(self, sweep: Path, total: int | None, file: TextIO) -> None:
        self._sweep, self._total, self._file = sweep, total, file
        self._began = time.monotonic()
        self._first: dict[str, float] = {}  # how far each run was when it was first seen: it may have been resumed
        self._bar = tqdm(total=total, file=file, bar_format="{desc}|{bar}|" if total else "{desc}", leave=False)
        self._lines: dict[str, tqdm] = {}
        self._is_over = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begins to look."""
        os.environ.update({SHOWN: "1", "TQDM_DISABLE": "1"})  # which the launcher's processes inherit
        self._thread.start()

    def close(self) -> None:
        """Takes the bar away."""
        for name in (SHOWN, "TQDM_DISABLE"):
            os.environ.pop(name, None)
        self._is_over.set()
        self._thread.join()
        for line in (*self._lines.values(), self._bar):
            line.close()

    def _watch(self) -> None:
        while not self._is_over.wait(SECONDS):
            with suppress(OSError, ValueError, TypeError):  # a file that is just being written
                self.update(read_marks(self._sweep))

    def update(self, marks: Sequence[Mark]) -> None:
        """Shows how far the runs are."""
        running = [mark for mark in marks if not mark.has_ended]
        fractions = {mark.folder: 1.0 if mark.has_ended else self._fraction(mark) for mark in marks}
        done = sum(fractions.values())
        self._bar.n = min(done, self._total or done)
        ended = f"{len(marks) - len(running)} of {self._total or '?'} runs"
        self._bar.set_description_str(f"{ended}{self._left(fractions)} ", refresh=True)
        names = dict(zip(fractions, short_names(list(fractions)), strict=True))
        for folder in self._lines.keys() - {mark.folder for mark in running}:
            self._lines.pop(folder).close()
        for folder in (mark.folder for mark in running):
            if folder not in self._lines:
                self._lines[folder] = tqdm(bar_format="{desc}", file=self._file, leave=False)
            self._lines[folder].set_description_str(f"{_state(fractions[folder]):>11} {names[folder]}", refresh=True)

    def _fraction(self, mark: Mark) -> float:
        step = last_step(RunFolder(self._sweep / mark.folder))
        return min(1.0, step / mark.steps) if mark.steps else 0.0

    def _left(self, fractions: dict[str, float]) -> str:
        """As in ", 8 min left": by the time that it took so far."""
        seconds = time.monotonic() - self._began
        for folder, fraction in fractions.items():
            self._first.setdefault(folder, fraction)
        trained = sum(fraction - self._first[folder] for folder, fraction in fractions.items())
        if not self._total or trained < 0.01:
            return ""
        left = seconds / trained * (self._total - sum(fractions.values()))
        return f", {math.ceil(left / 60)} min left" if left >= 90 else f", {math.ceil(left)} s left"


def _state(fraction: float) -> str:
    """What a run does that has taken a fraction of its steps."""
    if fraction in (0, 1):
        return "scoring" if fraction else "preparing"
    return f"{fraction:.0%}"
