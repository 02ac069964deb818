"""`resume=RUN_DIR`: going on with a run by its saved settings, and by what is typed beside it."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from separation.app.settings import compose_config, compose_saved, corpus_of_run, run_folder
from separation.errors import InputError
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.runs.untrusted_files import check_targets
from separation.training.step import TrainingParts
from separation.training.trainer import Trainer

log = logging.getLogger(__name__)
CHANGEABLE = ("optimizer.lr", "optimizer.weight_decay")
"""Settings that change the steps to come, and may be changed where they are typed beside `resume=`."""
PROGRAM_KEYS = ("resume", "allow")
SENDING = {"logger.mode": (None, "offline"), "logger.tracking_uri": (None,)}
"""What sends a run to somebody, and its values that send nothing."""
SAID = ("run_dir", "trainer.resume")


def key_of(override: str) -> str:
    """The setting that an override is of."""
    return override.lstrip("+~").partition("=")[0]


def is_setting(text: str) -> bool:
    """Whether an argument is a setting, not an option or one of Hydra's own."""
    return ("=" in text or text.startswith("~")) and not text.startswith(("-", "hydra"))


def resumes(overrides: Sequence[str]) -> bool:
    """Whether a command line, of settings only, goes on with a run."""
    goes_on = any(text.startswith("resume=") and text != "resume=null" for text in overrides)
    return goes_on and all(map(is_setting, overrides))


def resumed_config(overrides: Sequence[str]) -> tuple[DictConfig, RunFolder, list[str]]:
    """The settings with which a run goes on: the saved ones, with overrides.

    The folder may be a stranger's: it says neither where anything is written nor whose classes are built.

    Args:
        overrides: `resume=RUN_DIR`, perhaps `allow=`, and single settings.

    Returns:
        Settings, folder, and which of `CHANGEABLE` were typed.

    Raises:
        InputError: the folder holds no run, or an override can't be meant.
        HydraException: an override names no setting of the run.
    """
    program = compose_config("config", [text for text in overrides if key_of(text) in PROGRAM_KEYS])
    folder = run_folder(program.resume, "resume", trained=False)
    typed = [text for text in overrides if key_of(text) not in PROGRAM_KEYS]
    for text in typed:
        if key_of(text) in SAID:
            raise InputError(f"{text}: resume={program.resume} says that already; leave it out")
        if isinstance(program.get(key_of(text)), DictConfig):
            raise InputError(f"{text}: beside resume=, give single settings, as in trainer.max_steps=N")
    saved = folder.load_config()
    config = compose_saved(folder, typed)
    with open_dict(config):
        for key in program:  # what the version that wrote the folder hadn't
            if key not in config:
                config[key] = program[key]
        for key in ("trainer", "evaluation"):
            config[key] = OmegaConf.merge(program[key], config[key])
        config.allow, config.resume = program.allow, None
        config.run_dir, config.trainer.resume = str(folder.path), True
        config.overrides = _joined(saved.get("overrides"), [text for text in typed if key_of(text) not in CHANGEABLE])
    check_targets(config, config.allow)
    for key in sending(config):
        if key not in map(key_of, typed):
            raise InputError(
                f"{key}={OmegaConf.select(config, key)}: would send this run; type it beside resume= to have it sent,"
                f" or {key}={SENDING[key][-1] or 'null'}"
            )
    if config.data.get("store") is not None:
        corpus_of_run(config, typed)
    return config, folder, [key_of(text) for text in typed if key_of(text) in CHANGEABLE]


def sending(config: DictConfig) -> list[str]:
    """The settings by which a tracker sends a run to somebody."""
    return [key for key, local in SENDING.items() if OmegaConf.select(config, key) not in local]


def _joined(before: Any, typed: Sequence[str]) -> list[str]:
    """Overrides of a run and those with which it goes on, each setting's last."""
    keys = set(map(key_of, typed))
    return [*(text for text in map(str, before or ()) if key_of(text) not in keys), *typed]


def _change(group: dict[str, Any], settings: dict[str, Any], name: str) -> None:
    """Brings a setting into a saved group of parameters. A learning rate that a schedule has changed stays the same
    fraction of the rate at the beginning."""
    if name == "lr" and "initial_lr" in group:
        before, now = group["initial_lr"], settings["initial_lr"]
        if before != now:
            group["lr"] = group["lr"] * now / before if before else settings["lr"]
        group["initial_lr"] = now
    else:
        group[name] = settings[name]


def change_optimizer(
    folder: RunFolder, config: DictConfig, keys: Sequence[str], trainer: Trainer, parts: TrainingParts
) -> None:
    """Brings typed settings into the state from which the run goes on, says so, and saves them.

    The state is written first: where the program is killed in between, the same command does the rest.

    Args:
        keys: of the settings.
        trainer, parts: as the settings build them.

    Raises:
        InputError: the state isn't one of this optimizer, or no step is left.
    """
    saved, step = folder.load_config(), 0
    changed = [f"{key}={OmegaConf.select(config, key)}" for key in keys]
    if folder.last.is_file():
        state = checkpoint.load(folder.last, torch.device("cpu"))
        try:
            step, stale_epochs = state["progress"]["step"], state["progress"].get("stale_epochs", 0)
            if step >= trainer.num_steps(len(parts.data.train))[1]:
                raise InputError(
                    f"{', '.join(changed)}: the run has ended at step {step}; give a larger trainer.max_steps beside it"
                )
            if trainer.patience is not None and stale_epochs >= trainer.patience:
                raise InputError(
                    f"{', '.join(changed)}: trainer.patience={trainer.patience} has ended the run; give a larger one"
                )
            groups = parts.optimizer.param_groups
            for group, settings in zip(state["optimizer"]["param_groups"], groups, strict=True):
                for key in keys:
                    _change(group, settings, key.rpartition(".")[2])
            if "base_lrs" in state.get("schedule", {}):
                state["schedule"]["base_lrs"] = [group["initial_lr"] for group in groups]
                state["schedule"]["_last_lr"] = [group["lr"] for group in state["optimizer"]["param_groups"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder.last}: holds no state of a run; train anew in another run_dir") from error
        checkpoint.save(folder.last, {name: value for name, value in state.items() if name != "format"})
    with open(folder.changes, "a", encoding="utf-8") as file:
        for key in keys:
            before, now = OmegaConf.select(saved, key), OmegaConf.select(config, key)
            if before != now:
                line = f"{key}={now} (it was {before}) from step {step + 1} on"
                log.info(line)
                file.write(f"{line}\n")
    folder.save_config(config)
