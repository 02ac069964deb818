"""A run as its tracker knows it: its name, its sweep and its settings."""

from contextlib import suppress
from pathlib import Path

from hydra.conf import HydraConf
from hydra.types import RunMode
from omegaconf import DictConfig

from separation.app.command import folder_name
from separation.runs.run_folder import RunFolder, flat_settings
from separation.training.trackers.tracker import TrackedRun

SWEPT = ".swept"
"""Of a sweep: the keys of which it tries several values, a line each."""
NOT_TRACKED = ("overrides", "logger.", "run_dir", "data.root", "data.store", "data.metadata")


def tracked_run(folder: RunFolder, config: DictConfig, hydra: HydraConf | None) -> TrackedRun:
    """What a tracker is told of a run; of a sweep's, that it belongs to it."""
    sweep = Path(hydra.sweep.dir) if hydra is not None and hydra.mode == RunMode.MULTIRUN else None
    settings = {
        key: value if isinstance(value, str | int | float) else str(value)
        for key, value in flat_settings(config).items()
        if not key.startswith(NOT_TRACKED)
    }
    return TrackedRun(folder, sweep, _name(folder.path, hydra if sweep else None), settings)


def _name(path: Path, hydra: HydraConf | None) -> str:
    """A run folder's name; where that has all overrides of a sweep, only those in which its runs differ."""
    if hydra is None:
        return path.name
    name = str(hydra.sweep.subdir)
    swept: list[str] = []
    with suppress(OSError):
        swept = (Path(hydra.sweep.dir) / SWEPT).read_text(encoding="utf-8").splitlines()
    different = [override for override in hydra.overrides.task if override.partition("=")[0] in swept]
    has_all = name == folder_name(hydra.job.override_dirname)
    return folder_name(",".join(different)) if has_all and different else name
