"""A training run's state, to a checkpoint and back: what has to be restored so that the run goes on bit for bit."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from separation.errors import InputError
from separation.runs import checkpoint
from separation.training.counters import Progress
from separation.training.step import TrainingParts


def capture(parts: TrainingParts, progress: Progress) -> dict[str, Any]:
    """Everything that a step reads or changes; mixtures are functions of the step. Called by every process at once."""
    return {
        "progress": progress.state_dict(),
        "network": parts.network.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "clipper": parts.clipper.state_dict(),
        "loss_scale": parts.precision.scaler.state_dict(),
        "data": parts.data.digest(),
        "random": parts.processes.gather(random_states(parts.device)),  # dropout's
    }


def restore(parts: TrainingParts, path: Path) -> Progress:
    """Puts a checkpoint's state into the parts.

    Raises:
        InputError: the checkpoint is damaged, or of another run.
    """
    state = checkpoint.load_network(path, parts.network, parts.device)
    if state.get("data") != parts.data.digest():
        raise InputError(
            f"data.root: its recordings are not those that {path} was trained on, or not its mixtures; give the same"
        )
    try:
        parts.optimizer.load_state_dict(state["optimizer"])
        parts.clipper.load_state_dict(state["clipper"])
        parts.precision.scaler.load_state_dict(state["loss_scale"])
        rank, states = parts.processes.rank, state["random"]
        if rank < len(states):  # a process that is new begins its dropout masks anew
            restore_random_states(states[rank], parts.device)
        return Progress.from_state(state["progress"])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{path}: can't be resumed ({' '.join(str(error).split())[:300]}); was it written by another version, or"
            " with other settings? train anew in another run_dir"
        ) from error


def random_states(device: torch.device) -> list[Tensor]:
    """Of the generators that dropout draws from."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.cuda.get_rng_state(device)]


def restore_random_states(states: list[Tensor], device: torch.device) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
