"""Run by torchrun: trains in several processes and writes what each of them holds at the end."""

import sys
from pathlib import Path

import torch

from separation.app.assembly import build, build_parts
from separation.app.settings import compose_config
from separation.runs.run_folder import RunFolder
from separation.training.interruption import Interruption
from separation.training.processes import joined


def main(output: Path, overrides: list[str]) -> None:
    torch.set_num_threads(1)
    config = compose_config("config", overrides)
    device = torch.device("cpu")
    with joined(device) as processes:
        parts = build_parts(config, device, processes)
        trainer = build(config, "trainer")
        folder = RunFolder(Path(config.run_dir))
        if processes.is_main:
            folder.last.parent.mkdir(parents=True)
        processes.wait()
        trainer.fit(parts, folder, Interruption())
        assert parts.averaged is not None
        state = {"network": parts.network.state_dict(), "clipper": parts.clipper.state_dict()}
        state["averaged"] = parts.averaged.module.state_dict()
        torch.save(state, output / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
