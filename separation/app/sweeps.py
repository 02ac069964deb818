"""What a `--multirun` does beside its runs: it passes signals on to them, and prints a table at its end."""

import math
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from separation.app.command import ERRORS, STOPPED, tell
from separation.app.reporting import report_at_end
from separation.app.sweep_bar import MARKS, SweepBar
from separation.app.tracking import SWEPT
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


BEST_TRIAL = "optimization_results.yaml"
"""What Hydra's Optuna sweeper writes."""


class SweepReport(Callback):
    """Passes on the signals that stop a run, shows a bar on a terminal, prints a table of the runs, ends the program
    with status 1 where one failed."""

    bar: SweepBar | None = None

    def __getstate__(self) -> dict[str, object]:
        """Nothing: launchers send callbacks along to their processes, where the bar isn't."""
        return {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        heed(pass_on)
        root = Path(config.hydra.sweep.dir)
        for name in (ERRORS, STOPPED, BEST_TRIAL):
            (root / name).unlink(missing_ok=True)
        with suppress(OSError):  # the first run says why
            root.mkdir(parents=True, exist_ok=True)
            (root / SWEPT).write_text("\n".join(_swept_keys(config)), encoding="utf-8")
        shutil.rmtree(root / MARKS, ignore_errors=True)
        if sys.stderr.isatty() and OmegaConf.select(config, "trainer.progress", default=False):
            self.bar = SweepBar(root, _num_runs(config), sys.stderr)
            self.bar.start()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        root = Path(config.hydra.sweep.dir)
        if self.bar is not None:
            self.bar.close()
        with suppress(OSError):  # after a SIGHUP nobody reads it
            print(f"\n{root}\n{runs_table(find_runs(root), root)}{_best_trial(root)}")
        if (root / STOPPED).is_file():
            number = int((root / STOPPED).read_text())
            tell("stopped; the same command with trainer.resume=true goes on")
            sys.exit(128 + number)
        if config.report:
            with suppress(OSError):
                report_at_end(root, print)
        errors = root / ERRORS
        if errors.is_file():
            lines = errors.read_text(encoding="utf-8").splitlines()
            tell(f"error: {len(lines)} of the runs failed; {errors} says why")
            sys.exit(1)


def _swept_keys(config: DictConfig) -> list[str]:
    """Keys of which a sweep tries several values."""
    overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    searched = config.hydra.sweeper.get("params") or {}  # Optuna's search space may be given there, too
    return [
        *(override.get_key_element() for override in overrides if override.is_sweep_override()),
        *map(str, searched),
    ]


def _num_runs(config: DictConfig) -> int | None:
    """How many runs a sweep has; None where its sweeper doesn't say."""
    if "n_trials" in config.hydra.sweeper:
        return int(config.hydra.sweeper.n_trials)
    if config.hydra.sweeper.get("params"):
        return None
    overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    sweeps = [override for override in overrides if override.is_sweep_override()]
    if not all(override.is_discrete_sweep() for override in sweeps):
        return None
    return math.prod(len(list(override.sweep_string_iterator())) for override in sweeps)


def _best_trial(root: Path) -> str:
    """A line on the best of Optuna's trials; empty for any other sweep."""
    if not (root / BEST_TRIAL).is_file():
        return ""
    results = OmegaConf.load(root / BEST_TRIAL)
    if "best_value" not in results:
        return ""
    if not math.isfinite(results.best_value):
        return "\n\nbest trial: none, since all failed"
    values = " ".join(f"{key}={value}" for key, value in results.best_params.items())
    return f"\n\nbest trial: {values} (validation {results.best_value:.5g}, lower is better)"
