"""A training run's state, to a checkpoint and back: what has to be restored so that the run goes on bit for bit."""

import inspect
import math
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
    """Puts a checkpoint's state into the parts, all of it or nothing.

    Raises:
        InputError: the checkpoint is damaged, or of another run.
    """
    state = checkpoint.load(path, parts.device)
    checkpoint.check_network(path, state.get("network"), parts.network)
    if state.get("data") != parts.data.digest():
        raise InputError(
            f"data.root: its recordings are not those that {path} was trained on, or not its mixtures; give the same"
        )
    try:
        progress = Progress.from_state(state["progress"])
        is_new = progress.step == progress.faulty_steps  # which are left out
        _check_optimizer(state["optimizer"], parts.optimizer, is_new)
        _check_loss_scale(state["loss_scale"], parts.precision.scaler.state_dict())
        _check_random(state["random"], parts.device)
        parts.clipper.load_state_dict(state["clipper"])  # checks all of it before it changes anything
        parts.network.load_state_dict(state["network"])
        parts.optimizer.load_state_dict(state["optimizer"])
        parts.precision.scaler.load_state_dict(state["loss_scale"])
        if parts.processes.rank < len(state["random"]):  # a process that is new begins its dropout masks anew
            restore_random_states(state["random"][parts.processes.rank], parts.device)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{path}: can't be resumed ({' '.join(str(error).split())[:300]}); was it written by another version, or"
            " with other settings? train anew in another run_dir"
        ) from error
    return progress


def _check_optimizer(state: Any, optimizer: torch.optim.Optimizer, is_new: bool) -> None:
    """Raises ValueError (or KeyError, TypeError, AttributeError) unless a state is one that the optimizer could have
    saved: its settings, and for each parameter what it remembers, of the parameter's shape.

    Args:
        is_new: it has not taken a step yet.
    """
    ours = optimizer.state_dict()["param_groups"]
    if len(state["param_groups"]) != len(ours):
        raise ValueError(f"optimizer: expected {len(ours)} groups of parameters")
    for group, expected in zip(state["param_groups"], ours, strict=True):
        for name in expected:
            same = group[name] == expected[name] or name == "capturable"  # which a captured step sets
            if type(group[name]) is not type(expected[name]) or not same:
                raise ValueError(f"optimizer: {name} is {group[name]!r}, the settings say {expected[name]!r}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    remembered = _remembered(optimizer)
    if state["state"].keys() != (set() if is_new or not remembered else set(range(len(parameters)))):
        raise ValueError(f"optimizer: expected a state of each of {len(parameters)} parameters")
    for number, entries in state["state"].items():
        if entries.keys() != remembered.keys():
            raise ValueError(f"optimizer: expected {', '.join(remembered)} of parameter {number}")
        for name, example in remembered.items():
            _check_like(f"optimizer: {name} of parameter {number}", entries[name], example, parameters[number].shape)


def _remembered(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer of this kind remembers of a parameter with a single entry, by name."""
    like = optimizer.param_groups[0]["params"][0]
    entry = torch.zeros((1,) * like.ndim, requires_grad=True, device=like.device)
    entry.grad = torch.zeros_like(entry)
    arguments = inspect.signature(type(optimizer)).parameters
    probe: Any = type(optimizer)
    probe = probe([entry], **{name: value for name, value in optimizer.defaults.items() if name in arguments})
    probe.step()
    return dict(probe.state[entry]) if entry in probe.state else {}


def _check_like(name: str, value: Any, example: Any, shape: torch.Size) -> None:
    """Raises ValueError unless a value is of an example's type and, where that is no scalar, of a shape; and finite."""
    if not isinstance(example, Tensor):
        if type(value) is not type(example):
            raise ValueError(f"{name} is {value!r}")
        return
    shape = shape if example.ndim else example.shape
    if not isinstance(value, Tensor) or (value.shape, value.dtype) != (shape, example.dtype):
        raise ValueError(f"{name} has another shape or type")
    if not value.isfinite().all() or (not example.ndim and value < 0):
        raise ValueError(f"{name} is NaN, infinite or negative")


def _check_loss_scale(state: Any, expected: dict[str, Any]) -> None:
    """Raises ValueError unless a state holds positive numbers under GradScaler's names."""
    if not isinstance(state, dict) or state.keys() != expected.keys():
        raise ValueError("loss_scale: was saved with another trainer.precision")
    for name, value in state.items():
        if type(value) is not type(expected[name]) or not 0 <= value < math.inf:
            raise ValueError(f"loss_scale: {name} is {value!r}")


def _check_random(states: Any, device: torch.device) -> None:
    """Raises ValueError unless every process's states are such as `random_states` gives."""
    expected = [(torch.Tensor, state.shape, state.dtype) for state in random_states(device)]
    if not isinstance(states, list) or not states:
        raise ValueError("random: expected the states of at least one process")
    for process in states:
        if [(type(state), state.shape, state.dtype) for state in process][: len(expected)] != expected[: len(process)]:
            raise ValueError("random: expected generators' states")


def random_states(device: torch.device) -> list[Tensor]:
    """States of the generators that dropout draws from."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.cuda.get_rng_state(device)]


def restore_random_states(states: list[Tensor], device: torch.device) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
