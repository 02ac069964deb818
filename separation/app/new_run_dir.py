"""Folders that the clock names: two runs, or two sweeps, that start in the same second get one each."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from separation.app.literal_paths import literal
from separation.runs.run_folder import make_new


class NewRunDir(Callback):
    """Makes such a folder before Hydra would, and changes `run_dir` where somebody else has made it already."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.run.dir == config.run_dir:
            choose_run_dir(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        before = config.run_dir
        if config.hydra.sweep.dir == before:
            choose_run_dir(config)
        if config.run_dir != before:  # the settings of each run are composed anew, from these
            with open_dict(config):
                config.hydra.overrides.task.append(literal(f"run_dir={config.run_dir}"))


def choose_run_dir(config: DictConfig) -> None:
    """Makes the folder that the clock names, under a name that is free."""
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    named_by_clock = "${now:" in str(written["run_dir"])
    if named_by_clock and os.environ.get("RANK", "0") == "0":  # torchrun's first process chooses for all
        with suppress(OSError):  # Hydra, which tries next, says why
            config.run_dir = str(make_new(Path(config.run_dir)))
