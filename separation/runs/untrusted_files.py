"""What is checked of untrusted files, which may come from a stranger, at the door of evaluate, separate and resume.

A run folder is data, not code: whoever opens one runs nothing that it brings along, builds nothing but this project's
classes and those of packages that the command line allows (`allow=[my_package]`, never the folder), writes nowhere but
into it, and needs no more memory than its files are large. `read_settings` guards
config.yaml, `check_targets` what its settings build, `check_archive` checkpoints (which `torch.load` then opens with
weights_only), `check_links` what is written.
"""

import inspect
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from separation.errors import InputError

GROUPS = ("data", "model", "clip", "optimizer", "scheduler", "trainer", "evaluation", "mixing", "stft")
NEW_GROUPS = ("scheduler",)
"""Of these, what earlier versions didn't save."""
VALUES = (
    *("seed", "device", "threads", "run_dir", "experiment", "choices", "overrides"),
    *("loss_scale", "magnitude_scale", "init_from", "init_strict", "report"),
    "logger",  # a group that runs of earlier versions don't have
)
"""The keys of a run's settings."""
ALLOWED_TARGETS: dict[str, str | tuple[str, ...]] = {
    "data": "separation.data.corpora.",
    "mixing": "separation.data.mixtures.Mixing",
    "stft": "separation.model.features.Stft",
    "model.network": "separation.model.",
    "model.loss": "separation.model.losses.",
    "model.separator": "separation.model.separators.",
    "clip": "gradclip.",
    "optimizer": ("torch.optim.", "separation.training.muon."),
    "scheduler": "separation.training.schedules.",
    "trainer": "separation.training.trainer.Trainer",
    "logger": "separation.training.trackers.",
    "evaluation": "separation.evaluation.evaluator.EvaluationSettings",
}
"""What the settings under each key may build."""
OWN = ("data", "model.network", "model.loss", "model.separator", "clip", "optimizer", "scheduler", "logger")
"""Keys under which a class may be the user's own."""
CHAIN = "gradclip.chain.Chain"
LARGEST_CONFIG = 1_000_000
"""In bytes."""


def read_settings(path: Path) -> DictConfig:
    """A run's saved settings.

    Raises:
        InputError: they are no plain values under known keys. References (YAML's aliases, OmegaConf's interpolations)
            and Hydra's own keys could make a small file large, read the environment, or fetch other files.
    """
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise InputError(f"{path}: is larger than {LARGEST_CONFIG} bytes; restore it or train again")
        text = path.read_text(encoding="utf-8")
        aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        if aliases or "${" in text or "@package" in text:
            raise InputError(f"{path}: holds references (${{...}}, *..., @package); a run's settings have none")
        config = OmegaConf.create(text)
    except InputError:
        raise
    except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: can't be read ({reason}); restore it or train again") from error
    settings = config if isinstance(config, DictConfig) else OmegaConf.create({})
    needed = [key for key in GROUPS if key in settings or key not in NEW_GROUPS]
    missing = [key for key in needed if not isinstance(settings.get(key), DictConfig)]
    unknown = sorted(str(key) for key in settings if key not in (*GROUPS, *VALUES))
    if missing or unknown:
        what = ", ".join(unknown) or f"no {', '.join(sorted(missing))}"
        raise InputError(f"{path}: holds no settings of a run ({what}); restore it or train again")
    return settings


def check_targets(config: DictConfig, allow: object = ()) -> None:
    """Raises InputError unless the settings under each key build one thing, and that of the key's own kind.

    Args:
        allow: packages beside this project whose classes and functions they may build, too; from the command line.
    """
    packages = _packages(allow)
    for key, prefix in ALLOWED_TARGETS.items():
        node = OmegaConf.select(config, key)
        if isinstance(node, DictConfig) and node:  # scheduler=none is empty
            _check_target(OmegaConf.to_container(node, resolve=True), key, prefix, packages)


def _packages(allow: object) -> list[str]:
    """The packages of an `allow` key, which may lie in the current folder."""
    packages = list(map(str, allow)) if isinstance(allow, Sequence) and not isinstance(allow, str) else [str(allow)]
    for package in packages:
        if not re.fullmatch(r"[A-Za-z_]\w*", package):
            raise InputError(f"allow={allow}: expected packages' names, as in allow=[my_package]")
    if packages and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return packages


def _check_target(node: Any, key: str, prefix: str | tuple[str, ...], packages: list[str]) -> None:
    """As `check_targets`, for plain settings; a chain of clippers has members of its own kind."""
    target = str(node.pop("_target_", None))
    package = target.partition(".")[0]
    if package in packages:
        _check_own(key, target, package)
    elif not _is_allowed(target, prefix):
        hint = ""
        if target.startswith(("separation.", "gradclip.")):
            hint = "; this version has no such name: it may come from another version than 0.1 and 0.2"
        elif key in OWN:
            hint = f"; a class of your own needs allow=[{package}] on the command line"
        raise InputError(f"{key}._target_={target}: expected a choice of {_in_words(prefix)}; see conf/{hint}")
    if target == CHAIN and isinstance(node.get("clippers"), dict):
        for name, member in node.pop("clippers").items():
            if not isinstance(member, dict):
                raise InputError(f"{key}.clippers.{name}={member}: expected settings with a _target_")
            _check_target(member, f"{key}.clippers.{name}", prefix, packages)
    if re.search(r'"_\w+_": ', json.dumps(node, default=str)):
        raise InputError(f"{key}: keys with underscores at both ends, such as _args_, are not allowed below it")


def _in_words(prefix: str | tuple[str, ...]) -> str:
    return prefix if isinstance(prefix, str) else " or ".join(prefix)


def _check_own(key: str, target: str, package: str) -> None:
    """Raises InputError unless a name leads to a class or function of an allowed package, not to what it imports."""
    if key.partition(".clippers.")[0] not in OWN:
        raise InputError(f"{key}._target_={target}: expected a choice of {_in_words(ALLOWED_TARGETS[key])}; see conf/")
    try:
        thing = get_object(target)
    except Exception as error:  # whatever importing somebody's module raises
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:300]
        module, _, name = target.rpartition(".")
        if module in sys.modules:
            there = ", ".join(key for key, value in vars(sys.modules[module]).items() if isinstance(value, type))
            raise InputError(f"{key}._target_={target}: {module} has no {name}; its classes are {there}") from error
        raise InputError(
            f"{key}._target_={target}: can't be imported ({reason}); is {package} in this folder or on PYTHONPATH?"
        ) from error
    if not callable(thing) or str(getattr(thing, "__module__", "")).partition(".")[0] != package:
        raise InputError(f"{key}._target_={target}: expected a class or function that {package} defines")


def _is_allowed(target: str, prefix: str | tuple[str, ...]) -> bool:
    """Whether a name leads to a class that a module with this prefix defines itself; under `model.network`, to a
    network's or to a function whose annotation says that it returns one."""
    if not target.startswith(prefix):
        return False
    try:
        thing = get_object(target)
    except (ImportError, AttributeError, ValueError):
        return False
    if prefix == ALLOWED_TARGETS["model.network"]:
        kind = inspect.signature(thing).return_annotation if inspect.isfunction(thing) else thing
        is_kind = inspect.isclass(kind) and issubclass(kind, nn.Module)
    else:
        is_kind = inspect.isclass(thing)
    return is_kind and f"{thing.__module__}.{thing.__name__}".startswith(prefix)


def check_archive(path: Path) -> None:
    """Raises ValueError (or what zipfile raises) for a checkpoint that is larger inside than outside, which is meant to
    fill the memory: torch doesn't compress."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("the archive is compressed, or its entries overlap")


def check_links(paths: Iterable[Path]) -> None:
    """Raises InputError where what a run writes would be written somewhere else."""
    for path in paths:
        if path.is_symlink():
            raise InputError(f"{path}: is a link; a run writes into its own folder only, so remove it")
