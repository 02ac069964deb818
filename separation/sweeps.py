"""What a `--multirun` prints at its end."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from separation.results import find_runs, load_summary, runs_table


class SweepReport(Callback):
    """Prints a table of the sweep's runs, and ends the program with status 1 where one of them failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        root = Path(config.hydra.sweep.dir)
        runs = find_runs(root)
        print(f"\n{root}\n{runs_table(runs, root)}")
        failed = [run for run in runs if load_summary(run) is None]
        if failed:
            print(f"error: {len(failed)} of {len(runs)} runs failed; their error.txt says why", file=sys.stderr)
            sys.exit(1)
