"""Checkpoints: tensors and plain values only, so that opening a stranger's runs no code."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from separation.errors import InputError
from separation.runs.atomic_files import replacing, write_error
from separation.runs.untrusted_files import check_archive

FORMAT = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint under a temporary name, syncs it, reads it again and renames it: whatever happens, the one
    before stays until this one is whole.

    Raises:
        InputError: it can't be written; names the disk's free space where that is why.
    """
    try:
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:  # whose errors say why; torch's own writing doesn't
                torch.save({"format": FORMAT, **state}, file)
            with zipfile.ZipFile(temporary) as archive:
                broken = archive.testzip()  # compares checksums
            if broken is not None:
                raise OSError(f"{broken} was not written as it should be")
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # torch tells of a full disk by a RuntimeError
        raise write_error(path, error) from error


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Reads a checkpoint onto a device.

    Raises:
        InputError: the file is missing, cut short, or something else than one of our checkpoints.
    """
    try:
        check_archive(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: contains pickled objects, which a checkpoint never does; refusing to load it"
        ) from error
    except Exception as error:  # whatever a damaged file makes the reader do
        raise InputError(f"{path}: is damaged or cut short; use another checkpoint or train again") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path}: is no checkpoint of this program (format {FORMAT})")
    return state


def load_network(path: Path, network: torch.nn.Module, device: torch.device) -> None:
    """Restores a network's parameters.

    Raises:
        InputError: as `load`, or the parameters are another network's, or damaged.
    """
    state = load(path, device)
    check_network(path, state.get("network"), network)
    network.load_state_dict(state["network"])


def check_network(path: Path, tensors: object, network: torch.nn.Module) -> None:
    """Raises InputError unless tensors are a state of the network: its names, shapes and types, and finite."""
    expected = network.state_dict()
    if not isinstance(tensors, dict) or {name: kind(tensor) for name, tensor in tensors.items()} != {
        name: kind(tensor) for name, tensor in expected.items()
    }:
        raise InputError(
            f"{path}: its parameters don't fit the network that config.yaml describes; the two files are of different"
            " runs, the model's settings were overridden, or the network's code has changed since"
        )
    check_finite(path, tensors)


def check_finite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Raises InputError where a value is NaN or infinite."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(f"{path}: {broken[0]} is NaN or infinite; use another checkpoint or train again")


def kind(value: object) -> object:
    """What another value has to have in common with this one to take its place."""
    return (value.shape, value.dtype, value.layout, value.is_meta) if isinstance(value, torch.Tensor) else type(value)
