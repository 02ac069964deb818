"""What a `--multirun` does beside its runs: it passes signals on to them, and prints a table at its end."""

import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from separation.app.command import ERRORS, STOPPED, tell
from separation.runs.summaries import find_runs, runs_table
from separation.training.interruption import Interrupted, heed


def pass_on(number: int, _: FrameType | None) -> None:
    """Sends a signal to the processes that a launcher has started, which would train on without the sweep."""
    children = psutil.Process().children(recursive=True)
    if not children:
        raise Interrupted(number)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)


class SweepReport(Callback):
    """Passes on the signals that stop a run, prints a table of the runs, ends the program with status 1 where one
    failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        heed(pass_on)
        for name in (ERRORS, STOPPED):
            (Path(config.hydra.sweep.dir) / name).unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        root = Path(config.hydra.sweep.dir)
        with suppress(OSError):  # after a SIGHUP nobody reads it
            print(f"\n{root}\n{runs_table(find_runs(root), root)}")
        if (root / STOPPED).is_file():
            number = int((root / STOPPED).read_text())
            tell("stopped; the same command with trainer.resume=true goes on")
            sys.exit(128 + number)
        errors = root / ERRORS
        if errors.is_file():
            lines = errors.read_text(encoding="utf-8").splitlines()
            tell(f"error: {len(lines)} of the runs failed; {errors} says why")
            sys.exit(1)
