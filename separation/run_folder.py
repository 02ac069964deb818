"""A run folder: the only product of a run, with fixed names."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from separation import atomic
from separation.errors import InputError


def short_names(names: Sequence[str]) -> list[str]:
    """Runs' names, which are their overrides, less those that all of them share."""
    overrides = [name.split(",") for name in names]
    shared = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [
        ",".join(override for override in parts if override not in shared) or name
        for name, parts in zip(names, overrides, strict=True)
    ]


class RunFolder:
    """Names of what a run writes.

    Attributes:
        config: the run's settings, resolved (YAML).
        best, last: checkpoints: the lowest validation loss, the last epoch.
        steps, epochs: a row per optimizer step, a row per epoch (CSV).
        scores: a row per mixture and source of the test splits (CSV).
        summary: the scores' means, and where they come from (JSON).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.best = path / "checkpoints" / "best.pt"
        self.last = path / "checkpoints" / "last.pt"
        self.steps = path / "steps.csv"
        self.epochs = path / "epochs.csv"
        self.scores = path / "scores.csv"
        self.summary = path / "summary.json"
        self.audio = path / "audio"
        self.tensorboard = path / "tensorboard"
        self.log = path / "train.log"

    @classmethod
    def create(cls, path: Path, config: DictConfig) -> "RunFolder":
        """Makes the folder and saves the settings.

        Raises:
            InputError: it holds a run already.
            OSError: it can't be written.
        """
        folder = cls(path)
        if any(file.exists() for file in (folder.config, folder.best, folder.last, folder.steps, folder.summary)):
            raise InputError(f"run_dir={path}: holds a run already; choose another folder or remove this one")
        folder.last.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder.config, OmegaConf.to_yaml(config, resolve=True))
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run's folder.

        Raises:
            InputError: it is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise InputError(f"run={path}: is no run folder (it has no config.yaml); give one that train.py wrote")
        if not folder.best.is_file():
            raise InputError(f"run={path}: has no checkpoints/best.pt; train it for at least one epoch first")
        return folder

    def check_config(self) -> None:
        """Raises InputError where the saved settings are damaged."""
        try:
            config = OmegaConf.load(self.config)
        except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
            raise InputError(f"{self.config}: can't be read ({error}); restore it or train again") from error
        if not isinstance(config, DictConfig) or "model" not in config:
            raise InputError(f"{self.config}: holds no settings of a run; restore it or train again")
