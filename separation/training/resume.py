"""A training run's state, to a checkpoint and back: what has to be restored so that the run goes on bit for bit."""

import copy
import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

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
        "schedule": parts.schedule.state_dict(),
        "averaged": {} if parts.averaged is None else averaged_weights(parts.averaged),
        "loss_scale": parts.precision.scaler.state_dict(),
        "data": parts.data.digest(),
        "random": parts.processes.gather(random_states(parts.device)),  # dropout's
    }


def averaged_weights(averaged: AveragedModel) -> dict[str, Any]:
    """The network with averaged weights, as `averaged.pt` has it, and how many steps' weights these are of."""
    return {"network": averaged.module.state_dict(), "count": int(averaged.n_averaged)}


def averaged_state(state: dict[str, Any]) -> dict[str, Any]:
    """Of what `capture` gave the averaged network, for a checkpoint of its own."""
    return {"network": state["averaged"]["network"], "data": state["data"]}


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
        _check_optimizer(state["optimizer"], parts.optimizer, progress)
        averaged = state.get("averaged", {})  # which earlier versions hadn't, nor a schedule
        if parts.averaged is not None:
            _check_averaged(path, averaged, parts.averaged, progress)
        elif averaged != {}:
            raise ValueError("averaged: was saved with trainer.ema")
        _check_loss_scale(state["loss_scale"], parts.precision.scaler.state_dict())
        _check_random(state["random"], parts.device)
        parts.schedule.check_state(state.get("schedule", {}))
        parts.clipper.load_state_dict(state["clipper"])  # checks all of it before it changes anything
        parts.schedule.load_state_dict(state.get("schedule", {}))
        if parts.averaged is not None:
            parts.averaged.module.load_state_dict(averaged["network"])
            parts.averaged.n_averaged.fill_(averaged["count"])
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


def _check_optimizer(state: Any, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Raises ValueError (or KeyError, TypeError, AttributeError) unless a state is one that the optimizer could have
    saved after that many steps: its settings, and what a step of its kind remembers of each parameter."""
    ours = optimizer.state_dict()["param_groups"]
    if len(state["param_groups"]) != len(ours):
        raise ValueError(f"optimizer: expected {len(ours)} groups of parameters")
    for group, expected in zip(state["param_groups"], ours, strict=True):
        rate = group["lr"]
        if not math.isfinite(rate) or rate < 0:
            raise ValueError(f"optimizer: lr is {rate!r}")
        for name in expected.keys() - ({"lr"} if "initial_lr" in expected else set()):  # which a schedule changes
            same = group[name] == expected[name] or name == "capturable"  # which a captured step sets
            if type(group[name]) is not type(expected[name]) or not same:
                raise ValueError(f"optimizer: {name} is {group[name]!r}, the settings say {expected[name]!r}")
    probe = _probe(optimizer)
    remembered = probe.state_dict()["state"]
    # While all steps are left out, some optimizers remember nothing yet.
    is_new = not state["state"] and progress.step in (progress.skipped, progress.faulty_steps)
    if not is_new and state["state"].keys() != remembered.keys():
        raise ValueError(f"optimizer: expected a state of each of {len(remembered)} parameters")
    for number, entries in state["state"].items():
        if {name: checkpoint.kind(value) for name, value in entries.items()} != {
            name: checkpoint.kind(value) for name, value in remembered[number].items()
        }:
            raise ValueError(f"optimizer: its state of parameter {number} has other names, shapes or types")
        for name, value in entries.items():
            if isinstance(value, Tensor) and not value.isfinite().all():
                raise ValueError(f"optimizer: {name} of parameter {number} is NaN or infinite")
        steps = float(entries.get("step", 0))
        if not (0 <= steps <= progress.step and steps.is_integer()):
            raise ValueError(f"optimizer: step of parameter {number} is {steps:g} after {progress.step} steps")
    probe.load_state_dict(copy.deepcopy(probe.state_dict() | {"state": state["state"]}))
    probe.step()
    if not all(entry.isfinite().all() for group in probe.param_groups for entry in group["params"]):
        raise ValueError("optimizer: the next step from there is NaN or infinite")


def _probe(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer of the same kind, after a step with gradients of 0 on parameters of 0 of the same shapes."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries = [torch.zeros_like(parameter, requires_grad=True) for parameter in parameters]
    for entry in entries:
        entry.grad = torch.zeros_like(entry)
    arguments = inspect.signature(type(optimizer)).parameters
    kind: Any = type(optimizer)
    probe = kind(entries, **{name: value for name, value in optimizer.defaults.items() if name in arguments})
    probe.step()
    return probe


def _check_averaged(path: Path, state: Any, averaged: AveragedModel, progress: Progress) -> None:
    """Raises ValueError (or KeyError, TypeError) unless a state is the network's weights averaged over that many
    steps."""
    checkpoint.check_network(path, state["network"], averaged.module)
    if type(state["count"]) is not int or state["count"] != progress.step:
        raise ValueError(f"averaged: of {state['count']!r} steps after {progress.step}")


def _check_loss_scale(state: Any, expected: dict[str, Any]) -> None:
    """Raises ValueError unless a state holds positive numbers under GradScaler's names."""
    if not isinstance(state, dict) or state.keys() != expected.keys():
        raise ValueError("loss_scale: was saved with another trainer.precision")
    for name, value in state.items():
        if type(value) is not type(expected[name]) or not 0 <= value < math.inf:
            raise ValueError(f"loss_scale: {name} is {value!r}")


def _check_random(states: Any, device: torch.device) -> None:
    """Raises ValueError unless every process's states are such as `random_states` gives."""
    expected = random_states(device)
    if not isinstance(states, list) or not states:
        raise ValueError("random: expected the states of at least one process")
    for process in states:
        if not isinstance(process, list) or not process:
            raise ValueError("random: expected generators' states")
        for state, ours in zip(process, expected, strict=False):  # a run may move between a CPU and a GPU
            if checkpoint.kind(state) != checkpoint.kind(ours):
                raise ValueError("random: expected generators' states")
        torch.Generator().set_state(process[0].cpu())  # which refuses what is no generator's state


def random_states(device: torch.device) -> list[Tensor]:
    """States of the generators that dropout draws from."""
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.cuda.get_rng_state(device)]


def restore_random_states(states: list[Tensor], device: torch.device) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
