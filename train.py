"""Trains a separator and scores it: `python train.py [data=...] [model=...] [clip=...] [key=value ...]`."""

import logging
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from separation import cli
from separation.assembly import build, build_data, set_threads
from separation.models import num_parameters, pick_device
from separation.results import score_table
from separation.run_folder import RunFolder
from separation.scoring import score_run
from separation.trainer import TrainingParts

log = logging.getLogger(__name__)


def train(config: DictConfig, path: Path) -> None:
    """Builds everything that the settings name, trains, and evaluates the best checkpoint."""
    set_threads(config)
    device = pick_device(config.device)
    trainer = build(config, "trainer")
    settings = build(config, "evaluation")
    data = build_data(config)
    torch.manual_seed(config.seed)
    network = build(config, "model.network").to(device)
    optimizer = build(config, "optimizer", params=network.parameters())
    clipper = build(config, "clip")
    parts = TrainingParts(
        network=network,
        loss=build(config, "model.loss"),
        clipping=clipper.attach(optimizer, network.named_parameters(), trainer.fold_clipping),
        optimizer=optimizer,
        stft=build(config, "stft"),
        train=data.train,
        valid=data.valid,
        device=device,
    )
    folder = RunFolder.create(path, config)
    cli.log_to_file(folder.log)
    log.info("%s: %d parameters, %s", folder.path, num_parameters(network), device)
    trainer.fit(parts, folder)
    command = " ".join(["python train.py", *HydraConfig.get().overrides.task])
    summary = score_run(folder, config, data, settings, folder.path, command)
    log.info("\n%s\n\n%s", folder.path, score_table(summary["splits"]))


main = hydra.main(version_base="1.3", config_path="conf", config_name="config")(cli.job(train))

if __name__ == "__main__":
    cli.entry_point(main)
