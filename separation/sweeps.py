"""What a `--multirun` does beside its runs: it passes signals on to them, and prints a table at its end."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from separation.cli import ERRORS
from separation.interruption import Interrupted
from separation.results import find_runs, runs_table


def pass_on(number: int, _: FrameType | None) -> None:
    """Sends a signal to the processes that a launcher has started, which would train on without the sweep."""
    children = psutil.Process().children(recursive=True)
    if not children:
        raise Interrupted(number)
    for child in children:
        child.send_signal(number)


class SweepReport(Callback):
    """Passes on SIGTERM and SIGUSR1; prints a table of the runs; ends the program with status 1 where one failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1):  # a terminal sends SIGINT to all of them itself
            signal.signal(number, pass_on)
        (Path(config.hydra.sweep.dir) / ERRORS).unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        root = Path(config.hydra.sweep.dir)
        print(f"\n{root}\n{runs_table(find_runs(root), root)}")
        errors = root / ERRORS
        if errors.is_file():
            lines = errors.read_text(encoding="utf-8").splitlines()
            print(f"error: {len(lines)} of the runs failed; {errors} says why", file=sys.stderr)
            sys.exit(1)
