"""Trains a separator and scores it: `python train.py [data=...] [model=...] [clip=...] [key=value ...]`; in several
processes: `torchrun --nproc-per-node=N train.py ...`."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import torch
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from separation.app import command
from separation.app.assembly import build, build_data, build_parts, set_threads, shared_data
from separation.app.evaluate import score_run
from separation.app.initial_weights import InitialWeights
from separation.app.literal_paths import literal
from separation.app.new_run_dir import choose_run_dir
from separation.app.reporting import in_sweep, report_at_end
from separation.app.resuming import change_optimizer, resumed_config, resumes
from separation.app.settings import CONF, check_model_keys, compose_with_hydra, hinted, note_choices
from separation.app.tracking import tracked_run
from separation.data.check.findings import fast_check
from separation.errors import InputError, check_flag
from separation.model.networks import num_parameters
from separation.runs import checkpoint
from separation.runs.atomic_files import check_writable, write_text
from separation.runs.paths import user_path
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, score_table
from separation.runs.untrusted_files import check_targets
from separation.training.devices import local_device, pick_device
from separation.training.interruption import Interrupted, Interruption
from separation.training.processes import Processes, joined
from separation.training.step import TrainingParts
from separation.training.together.group import Member
from separation.training.trackers.tracking import Tracking

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """A run that has ended.

    Attributes:
        path: its folder.
        summary: the scores of its `summary.json`.
        best: its best validation: the loss, or minus the SI-SDR, as `trainer.monitor` says.
    """

    path: Path
    summary: dict[str, Any]
    best: float


def start_or_resume(overrides: Sequence[str]) -> Run:
    """Trains as `overrides` say, without Hydra's main function: what it would change (logging, its own global state)
    stays as it is."""
    if resumes(overrides):
        config, folder, changes = resumed_config(overrides)
        return train(config, folder.path, changes)
    config, hydra_config = compose_with_hydra("config", overrides)
    choose_run_dir(config)
    return start(config, Path(config.run_dir), hydra_config)


def start(config: DictConfig, path: Path, hydra_config: HydraConf, member: Member | None = None) -> Run:
    """Trains by settings that are newly composed; see `train`."""
    if config.resume is not None:
        raise InputError(
            f"resume={config.resume}: takes single settings beside it, as in trainer.max_steps=N, no options"
        )
    check_targets(config, config.allow)
    check_model_keys(config)
    note_choices(config, hydra_config)
    return train(config, path, hydra_config=hydra_config, member=member)


def train(
    config: DictConfig,
    path: Path,
    changes: Sequence[str] = (),
    hydra_config: HydraConf | None = None,
    member: Member | None = None,
) -> Run:
    """Builds everything that the settings name, trains, and scores the best checkpoint.

    Args:
        path: the run folder's.
        changes: settings of the optimizer that may differ from those of the run that the folder holds.
        hydra_config: Hydra's own settings, which say whether it belongs to a sweep.
        member: the run as one of a group that trains together.
    """
    if config.init_from is not None:
        config.init_from = str(user_path("init_from", config.init_from).absolute())  # saved: for any working directory
    set_threads(config)
    device = local_device(pick_device(config.device))
    interruption = member.interruption if member else Interruption()
    try:
        with interruption.handled(), joined(device) as processes:
            [main_path, *_] = processes.gather(path)
            if path != main_path:
                with suppress(OSError):
                    path.rmdir()  # Hydra made it, from a clock that went on since the main process looked
            with command.logging_level(logging.INFO if processes.is_main else logging.ERROR):
                return _train(config, main_path, changes, hydra_config, device, processes, interruption, member)
    except Interrupted as stop:
        stop.where += f"; go on with: {command.resuming(path, config)}"
        raise


def _train(
    config: DictConfig,
    path: Path,
    changes: Sequence[str],
    hydra_config: HydraConf | None,
    device: torch.device,
    processes: Processes,
    interruption: Interruption,
    member: Member | None,
) -> Run:
    """As `train`, in one of the processes."""
    if processes.is_main:
        check_writable("run_dir", path)
    trainer, logger = build(config, "trainer"), build(config, "logger")
    settings = build(config, "evaluation")
    settings.check_rate(config.data.sample_rate)
    check_flag("report", config.report)
    begins = not (trainer.resume and RunFolder(path).last.is_file())
    initial = InitialWeights.of(config) if begins and config.init_from is not None else None
    data = partial(shared_data, member) if member else build_data
    parts = build_parts(config, device, processes, initial.load_into if initial else None, data)
    with ExitStack() as stack:
        folder, tracking = RunFolder(path), None
        if processes.is_main:
            fast_check(parts.data)
            folder = stack.enter_context(RunFolder.create(path, config, trainer.resume, changes))
            tracking = stack.enter_context(closing(Tracking(logger, tracked_run(folder, config, hydra_config))))
            stack.enter_context(command.logged_to(folder.log))
            log.info("%s: %d parameters, %s", folder.path, num_parameters(parts.network), device)
            if initial:
                write_text(folder.initial, json.dumps(initial.record(parts.network), indent=1) + "\n")
            if changes:
                change_optimizer(folder, config, changes, trainer, parts)
        processes.wait()
        trained = _fit(partial(trainer.fit, parts, folder, interruption, tracking, member), parts, folder, config)
        summary = None if trained else load_summary(folder)
        processes.wait()  # until all have read it
        if number := interruption.asked():
            raise Interrupted(number, f", before {folder.path} was scored")
        if summary is None or not summary.keys() >= {*settings.optional_columns}:
            typed = ", then ".join([" ".join(["python train.py", *config.overrides]), *folder.read_changes()])
            summary = score_run(folder, config, parts.data, settings, folder.path, typed, processes)
            if tracking:
                tracking.finish(summary["splits"])
            if parts.averaged is not None:
                output = folder.path / "averaged"
                averaged = score_run(folder, config, parts.data, settings, output, typed, processes, "averaged")
                log.info("\n%s\n\n%s", output, score_table(averaged["splits"]))
        log.info("\n%s\n\n%s", folder.path, score_table(summary["splits"]))
        if processes.is_main and config.report and not in_sweep(hydra_config):
            report_at_end(folder.path, log.info)
        return Run(path, summary, float(checkpoint.load(folder.last, device)["progress"]["best_loss"]))


def _fit(fit: Callable[[], bool], parts: TrainingParts, folder: RunFolder, config: DictConfig) -> bool:
    """Trains; returns whether there was anything left to do. Of a run that was prolonged, saves the settings."""
    try:
        trained = fit()
    except Interrupted:
        if parts.processes.is_main:
            folder.save_config(config)
        raise
    if not trained:
        log.info("%s: the run has ended; a larger trainer.max_steps (or trainer.patience) goes on with it", folder.path)
    elif parts.processes.is_main:
        folder.save_config(config)
    return trained


def main() -> None:
    """Trains as the command line says."""
    sys.argv[1:] = map(literal, sys.argv[1:])
    command.entry_point(_resume if resumes(sys.argv[1:]) else _start)


def _resume() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    start_or_resume(sys.argv[1:])


def _start() -> None:
    def job(config: DictConfig, path: Path) -> float:
        return start(config, path, HydraConfig.get()).best

    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(command.job(job))()
    except HydraException as error:
        raise hinted(error, "config", CONF, sys.argv[1:]) from error


if __name__ == "__main__":
    main()
