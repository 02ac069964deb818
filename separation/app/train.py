"""Trains a separator and scores it: `python train.py [data=...] [model=...] [clip=...] [key=value ...]`; in several
processes: `torchrun --nproc-per-node=N train.py ...`."""

import logging
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from separation.app import command
from separation.app.assembly import build, build_parts, set_threads
from separation.app.evaluate import score_run
from separation.app.literal_paths import literal
from separation.app.settings import CONF, check_model_keys, hinted, note_choices
from separation.app.tracking import tracked_run
from separation.data.check.findings import fast_check
from separation.model.networks import num_parameters
from separation.runs import checkpoint
from separation.runs.atomic_files import check_writable
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, score_table
from separation.runs.untrusted_files import check_targets
from separation.training.devices import local_device, pick_device
from separation.training.interruption import Interruption
from separation.training.processes import joined
from separation.training.trackers.tracking import Tracking

log = logging.getLogger(__name__)


def train(config: DictConfig, path: Path) -> float:
    """Builds everything that the settings name, trains, and scores the best checkpoint.

    Returns:
        The best validation: the loss, or minus the SI-SDR, as `trainer.monitor` says.
    """
    check_targets(config, config.allow)
    check_model_keys(config)
    note_choices(config)
    set_threads(config)
    device = local_device(pick_device(config.device))
    interruption = Interruption()
    with interruption.handled(), joined(device) as processes:
        [main_path, *_] = processes.gather(path)
        if path != main_path:
            with suppress(OSError):
                path.rmdir()  # Hydra made it, from a clock that went on since the main process looked
        if processes.is_main:
            check_writable("run_dir", path)
        else:
            logging.getLogger().setLevel(logging.ERROR)
        trainer, logger = build(config, "trainer"), build(config, "logger")
        settings = build(config, "evaluation")
        settings.check_rate(config.data.sample_rate)
        parts = build_parts(config, device, processes)
        if processes.is_main:
            fast_check(parts.data)
        with ExitStack() as stack:
            folder, tracking = RunFolder(main_path), None
            if processes.is_main:
                stack.enter_context(RunFolder.create(main_path, config, trainer.resume))
                tracking = stack.enter_context(closing(Tracking(logger, tracked_run(folder, config))))
                command.log_to_file(folder.log)
            processes.wait()
            log.info("%s: %d parameters, %s", folder.path, num_parameters(parts.network), device)
            trained = trainer.fit(parts, folder, interruption, tracking)
            if trained and processes.is_main:
                folder.save_config(config)  # a prolonged run's steps
            summary = None if trained else load_summary(folder)
            processes.wait()  # until all have read it
            if summary is None or not summary.keys() >= {*settings.optional_columns}:
                typed = " ".join(["python train.py", *HydraConfig.get().overrides.task])
                summary = score_run(folder, config, parts.data, settings, folder.path, typed, processes)
                if tracking:
                    tracking.finish(summary["splits"])
            log.info("\n%s\n\n%s", folder.path, score_table(summary["splits"]))
            return float(checkpoint.load(folder.last, device)["progress"]["best_loss"])


def main() -> None:
    """Trains as the command line says."""
    decorate = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    sys.argv[1:] = map(literal, sys.argv[1:])

    def run() -> None:
        try:
            decorate(command.job(train))()
        except HydraException as error:
            raise hinted(error, "config", CONF, sys.argv[1:]) from error

    command.entry_point(run)


if __name__ == "__main__":
    main()
