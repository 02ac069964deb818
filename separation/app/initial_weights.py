"""Initial weights of another run, `init_from=RUN_OR_CHECKPOINT`: the network's only, by name."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from separation.app.settings import run_folder
from separation.data.corpora.file_corpus import named
from separation.errors import InputError, check_flag
from separation.runs import checkpoint
from separation.runs.paths import user_path
from separation.runs.run_folder import RunFolder

log = logging.getLogger(__name__)
SIGNAL_KEYS = ("data.sample_rate", "stft.window_length", "stft.hop_length")
"""With other values, weights of the same shapes mean something else."""


@dataclass(frozen=True)
class InitialWeights:
    """A trained network's parameters and buffers.

    Attributes:
        file: their checkpoint.
        sha256: its digest.
        tensors: by name.
        signal: what the network was trained on (`SIGNAL_KEYS`); empty where nobody knows.
        strict: what doesn't fit is an error; otherwise it keeps its fresh values.
    """

    file: Path
    sha256: str
    tensors: dict[str, Any]
    signal: dict[str, Any]
    strict: bool

    @classmethod
    def of(cls, config: DictConfig) -> "InitialWeights":
        """Those that `init_from` names: a run folder's best, or a checkpoint's.

        Raises:
            InputError: there are none, they can't be read, or they were trained at another rate or with another STFT.
        """
        check_flag("init_strict", config.init_strict)
        path = user_path("init_from", config.init_from)
        is_run = path.is_dir()
        source = run_folder(config.init_from, "init_from") if is_run else RunFolder(path.absolute().parent.parent)
        file = source.best if is_run else path
        tensors = checkpoint.load(file, torch.device("cpu")).get("network")
        if not isinstance(tensors, dict):
            raise InputError(f"init_from={file}: holds no network; give a run folder or its checkpoints/best.pt")
        in_run = file.parent.name == source.best.parent.name and source.config.is_file()
        settings = source.load_config() if in_run else OmegaConf.create()
        signal = {key: value for key in SIGNAL_KEYS if (value := OmegaConf.select(settings, key)) is not None}
        with open(file, "rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        weights = cls(file, sha256, tensors, signal, config.init_strict)
        weights._check_signal(config)
        return weights

    def _check_signal(self, config: DictConfig) -> None:
        now = {key: OmegaConf.select(config, key) for key in self.signal}
        others = [f"{key}={now[key]} (it was {was})" for key, was in self.signal.items() if now[key] != was]
        if others:
            self._refuse(f"was trained on other signals: {', '.join(others)}; take its settings")

    def _refuse(self, problem: str) -> None:
        """An error; without `strict`, a warning."""
        if self.strict:
            raise InputError(f"init_from={self.file}: {problem}, or give init_strict=false to go on all the same")
        log.warning("init_from=%s: %s", self.file, problem)

    def names(self, network: nn.Module) -> dict[str, list[str]]:
        """Names of the network's parameters and buffers that get these values, of those that keep theirs, and of those
        that the network hasn't."""
        ours = network.state_dict()
        loaded = [name for name in ours if checkpoint.kind(self.tensors.get(name)) == checkpoint.kind(ours[name])]
        return {
            "loaded": loaded,
            "fresh": [name for name in ours if name not in loaded],
            "unused": [name for name in self.tensors if name not in ours],
        }

    def load_into(self, network: nn.Module) -> None:
        """Gives the network the values that fit by name, shape and type.

        Raises:
            InputError: some don't, and `strict` is set; none does; or some are NaN.
        """
        names, ours = self.names(network), network.state_dict()
        if not {name for name, _ in network.named_parameters()} & set(names["loaded"]):
            raise InputError(
                f"init_from={self.file}: none of its {len(self.tensors)} tensors fits a parameter of this network by"
                " name and shape; give a run of such a model, or its model's settings"
            )
        misfits = [f"{name} ({self._difference(name, ours[name])})" for name in names["fresh"]]
        misfits += [f"{name} (not in this network)" for name in names["unused"]]
        if misfits:
            self._refuse(f"{len(misfits)} parameters don't fit: {named(misfits, ', ')}; take its model's settings")
        fitting = {name: self.tensors[name] for name in names["loaded"]}
        checkpoint.check_finite(self.file, fitting)
        network.load_state_dict(fitting, strict=False)
        log.info("initial weights: %d of %d tensors from %s", len(fitting), len(ours), self.file)

    def _difference(self, name: str, ours: torch.Tensor) -> str:
        """Why a parameter of the network stays fresh."""
        theirs = self.tensors.get(name)
        if name not in self.tensors:
            return "not in the checkpoint"
        if not isinstance(theirs, torch.Tensor) or theirs.shape == ours.shape:
            return "of another type"
        return f"{tuple(theirs.shape)} there, {tuple(ours.shape)} here"

    def record(self, network: nn.Module) -> dict[str, Any]:
        """What a run folder keeps of them."""
        return {"file": str(self.file), "sha256": self.sha256, **self.names(network)}
