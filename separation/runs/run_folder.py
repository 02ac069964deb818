"""A run folder: the only product of a run, with fixed names."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from separation.errors import InputError, check_choice
from separation.runs import atomic_files
from separation.runs.earlier_versions import use_todays_names
from separation.runs.untrusted_files import check_links, read_settings

MAY_CHANGE = (
    *("choices.", "overrides", "run_dir", "threads", "device", "allow", "evaluation.", "report", "init_strict"),
    *("data.root", "data.metadata", "data.store"),
    *("trainer.max_steps", "trainer.max_epochs", "trainer.max_skipped", "trainer.resume", "trainer.progress"),
    *("trainer.num_scored", "trainer.checkpoint_steps", "trainer.checkpoint_minutes", "trainer.log_steps"),
    *("trainer.patience", "trainer.store_on_device", "trainer.cuda_graph", "trainer.dynamics_steps"),
    "logger.",
)
"""Settings that may be others when a run is resumed: with them it still takes the same steps."""


LONGEST_NAME = 180
"""In bytes, as file systems count; they allow 255. Of a run's overrides as its folder's name, without the checksum that
keeps apart what was changed or cut."""
CHECKSUM = re.compile(r"(?<=.)-[0-9a-f]{8}$")


def short_names(names: Sequence[str]) -> list[str]:
    """Runs' names, which are their overrides, less those that all of them share, and less checksums; whole where they
    couldn't be told apart otherwise."""
    overrides, ends = [], []
    for name in names:
        stem = CHECKSUM.sub("", name)
        was_cut = stem != name and len(os.path.basename(stem).encode()) > LONGEST_NAME - 4  # less half a character
        if stem.endswith("=") and not was_cut:
            stem = name  # a negative value
        parts = re.split(r",(?=[\w.@/+~]+(?:=|$))", stem)
        ends.append(parts.pop() if was_cut else None)
        overrides.append(parts)

    def holds(number: int, override: str) -> bool:
        end = ends[number]
        return override in overrides[number] or (end is not None and override.startswith(end))

    every = range(len(names)) if len(names) > 1 else ()
    shared = {part for parts in overrides for part in parts if every and all(holds(number, part) for number in every)}
    short = [",".join(override for override in parts if override not in shared) for parts in overrides]
    return [text if text and short.count(text) == 1 else name for text, name in zip(short, names, strict=True)]


def make_new(path: Path) -> Path:
    """Makes a folder that nobody else has made: `path`, or where it is there already, `path`-2, `path`-3, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


class RunFolder:
    """Names of what a run writes.

    Attributes:
        config: the run's settings, resolved (YAML).
        best, last: checkpoints: the best validation, the last epoch.
        averaged: weights alone: the best validation of the moving average (`trainer.ema`), if one was taken.
        steps, epochs: a row per optimizer step, a row per epoch (CSV).
        dynamics: step size and smoothness of some steps, if asked for (CSV).
        tensorboard, wandb, mlflow: what a tracker keeps there; tracker: how far it has come (JSON).
        scores: a row per mixture and source of the test splits (CSV).
        initial: which weights the training began with, if those of another run (JSON).
        changes: settings that were changed on the way, a line each (text).
        summary: the scores' means, and where they come from (JSON).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.best = path / "checkpoints" / "best.pt"
        self.last = path / "checkpoints" / "last.pt"
        self.averaged = path / "checkpoints" / "averaged.pt"
        self.steps = path / "steps.csv"
        self.epochs = path / "epochs.csv"
        self.dynamics = path / "dynamics.csv"
        self.scores = path / "scores.csv"
        self.initial = path / "initial.json"
        self.changes = path / "changes.txt"
        self.summary = path / "summary.json"
        self.audio = path / "audio"
        self.tensorboard = path / "tensorboard"
        self.wandb = path / "wandb"
        self.mlflow = path / "mlflow.db"
        self.tracker = path / "tracker.json"
        self.log = path / "train.log"

    @classmethod
    @contextmanager
    def create(cls, path: Path, config: DictConfig, resume: bool, changes: Sequence[str] = ()) -> "Iterator[RunFolder]":
        """Makes the folder and saves the settings; holds it against other processes inside the `with`.

        Args:
            resume: it may hold a run with the same settings, but for those that `MAY_CHANGE`.
            changes: other settings that may differ.

        Raises:
            InputError: it holds another run, or a run that is not to be resumed, or is being trained into.
            OSError: it can't be written.
        """
        folder = cls(path)
        folder.last.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(path / ".lock", timeout=0):  # the system frees it when a process dies
                folder._begin(config, resume, changes)
                yield folder
        except Timeout as error:
            raise InputError(f"run_dir={path}: another process is training in it; choose another folder") from error

    def _begin(self, config: DictConfig, resume: bool, changes: Sequence[str]) -> None:
        products = (self.config, self.best, self.last, self.steps, self.summary)
        if not resume and any(file.exists() for file in products):
            raise InputError(
                f"run_dir={self.path}: holds a run already; trainer.resume=true goes on with it; otherwise choose"
                " another folder or remove this one"
            )
        check_links(self._products())
        if not self.last.is_file() and (self.best.is_file() or self.summary.is_file()):
            raise InputError(
                f"run_dir={self.path}: its checkpoints/last.pt is gone, so the run can't be resumed; copy best.pt to"
                " last.pt to go on from there, or choose another folder"
            )
        if self.config.is_file():
            changed = self.changed(config, changes)
            if changed:
                values = ", ".join(changed[:5])
                raise InputError(f"{values}: not as in the run that {self.path} holds; take its settings to resume it")
        for leftover in self.last.parent.glob(".*.tmp"):  # of a process that was killed while it wrote
            with suppress(OSError):
                leftover.unlink()
        if not self.config.is_file():
            self.save_config(config)

    def changed(self, config: DictConfig, changes: Sequence[str] = ()) -> list[str]:
        """Which settings aren't the saved ones, but for those that `MAY_CHANGE` and `changes`, as in "seed=1 (it was
        0)"."""
        before, now = flat_settings(self.load_config()), flat_settings(config)
        keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        others = [key for key in keys if not key.startswith(MAY_CHANGE) and key not in changes]
        return [f"{key}={now.get(key)} (it was {before.get(key)})" for key in others]

    def save_config(self, config: DictConfig) -> None:
        """Writes the settings, resolved, but for those of the command line alone: what they may build is for the next
        one to say."""
        saved = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("allow", "resume")])
        atomic_files.write_text(self.config, OmegaConf.to_yaml(saved, resolve=True))

    def read_changes(self) -> list[str]:
        """The settings that were changed on the way."""
        return self.changes.read_text(encoding="utf-8").splitlines() if self.changes.is_file() else []

    def _products(self) -> list[Path]:
        """What a run writes into its folder."""
        return [*(path for path in vars(self).values() if path != self.path), self.last.parent]

    @classmethod
    def open(cls, path: Path, key: str = "run", trained: bool = True) -> "RunFolder":
        """An existing run's folder, which a key names.

        Args:
            trained: it has to have a best checkpoint.

        Raises:
            InputError: it is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise InputError(f"{key}={path}: is no run folder (it has no config.yaml); give one that train.py wrote")
        if trained and not folder.best.is_file():
            raise InputError(f"{key}={path}: has no checkpoints/best.pt; train it for at least one epoch first")
        check_links(folder._products())
        return folder

    def checkpoint(self, weights: str) -> Path:
        """The checkpoint of `best` or `averaged` weights.

        Raises:
            InputError: the run has none.
        """
        path = {"best": self.best, "averaged": self.averaged}[check_choice("weights", weights, ("best", "averaged"))]
        if not path.is_file():
            raise InputError(f"weights={weights}: {path} isn't there; it takes training with trainer.ema=0.999")
        return path

    def load_config(self) -> DictConfig:
        """The saved settings, under today's names; see `read_settings` for what is refused."""
        config = read_settings(self.config)
        use_todays_names(config)
        return config


def flat_settings(config: Any) -> dict[str, Any]:
    """Settings by their dotted names."""

    def flat(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            yield prefix, node

    return dict(flat(OmegaConf.to_container(config, resolve=True), ""))
