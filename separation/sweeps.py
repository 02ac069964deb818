"""What a `--multirun` prints at its end."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from separation.cli import ERRORS
from separation.results import find_runs, runs_table


class SweepReport(Callback):
    """Prints a table of the sweep's runs, and ends the program with status 1 where one of its jobs failed."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        (Path(config.hydra.sweep.dir) / ERRORS).unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        root = Path(config.hydra.sweep.dir)
        print(f"\n{root}\n{runs_table(find_runs(root), root)}")
        errors = root / ERRORS
        if errors.is_file():
            lines = errors.read_text(encoding="utf-8").splitlines()
            print(f"error: {len(lines)} of the runs failed; {errors} says why", file=sys.stderr)
            sys.exit(1)
