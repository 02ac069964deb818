"""Reads a strategy's saved state and names the field that is wrong."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

WHOLE = "all"
"""The name of the whole gradient's history."""
VERSION = 2
"""1, of gradclip 0.1, had mappings where 2 has pairs, and held settings that now are the constructor's alone."""


class State:
    """A state dict whose fields are checked as they are read.

    Args:
        values: what a clipper's `state_dict` returned.
        strategy: the class that it must be of.

    Raises:
        ValueError: it is another strategy's, or another version's of this library. All methods raise it, with the
            field's name, where a value is missing or doesn't fit.
    """

    def __init__(self, values: object, strategy: str) -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"state: expected a dictionary from {strategy}.state_dict(), got {type(values).__name__}")
        self._values = values
        if values.get("strategy") != strategy:
            saved = values.get("strategy")
            raise ValueError(f"strategy: the state is of {saved!r} and can't be loaded into {strategy}")
        if values.get("version") not in (1, VERSION):
            raise ValueError(
                f"version: expected {VERSION}, got {values.get('version')!r}; use the library that wrote it"
            )
        self.is_first_version = values["version"] == 1

    def get(self, name: str) -> Any:
        """The field's value as it is."""
        if name not in self._values:
            raise ValueError(f"{name}: is missing in the state")
        return self._values[name]

    def expect(self, name: str, value: object) -> None:
        """Raises ValueError unless the field equals this clipper's setting."""
        saved = self.get(name)
        if isinstance(saved, Mapping):
            saved = pairs(saved)
        if type(saved) is not type(value) or saved != value:
            raise ValueError(f"{name}: the state was saved with {saved!r}, this clipper has {value!r}")

    def count(self, name: str, since_version_2: bool = False) -> int:
        """A whole number that is >= 0 and fits into a tensor; 0 where the state is older than the field."""
        if since_version_2 and self.is_first_version:
            return 0
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError(f"{name}: expected a whole number in [0, 2**63), got {value!r}")
        return value

    def number(self, name: str) -> float:
        """A number >= 0."""
        return _number(name, self.get(name))

    def numbers(self, name: str) -> list[float]:
        """Finite numbers of any sign, in their order."""
        value = self.get(name)
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name}: expected numbers, got {value!r}")
        return [_number(name, number, signed=True) for number in value]

    def norms(self, name: str) -> list[float]:
        """Norms, in their order."""
        value = self.get(name)
        if isinstance(value, tuple):
            value = torch.tensor([_number(name, number) for number in value], dtype=torch.float64)
        return _norms(name, value).tolist()

    def rows(self, name: str, length: int) -> dict[str, list[float]]:
        """`length` numbers > 0 for each name."""
        rows = {}
        for key, value in self._named(name):
            field = f"{name}[{key!r}]"
            if not isinstance(value, list | tuple) or len(value) != length:
                raise ValueError(f"{field}: expected {length} numbers, got {value!r}")
            rows[key] = [_number(field, number) for number in value]
            if not all(number > 0 for number in rows[key]):
                raise ValueError(f"{field}: expected numbers > 0, got {value!r}")
        return rows

    def histories(self, name: str, grouped: bool = True) -> dict[str, Tensor]:
        """Norms for each name; without groups, those of the whole gradient only."""
        histories = {key: _norms(f"{name}[{key!r}]", value) for key, value in self._named(name)}
        if not grouped and set(histories) - {WHOLE}:
            raise ValueError(f"{name}: expected norms of {WHOLE!r}, got those of {', '.join(histories)}")
        return histories

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A tensor for each name, in float32 at least; copies."""
        tensors = {key: _tensor(f"{name}[{key!r}]", value) for key, value in self._named(name)}
        return {
            key: value.to(torch.promote_types(value.dtype, torch.float32), copy=True) for key, value in tensors.items()
        }

    def _named(self, name: str) -> list[tuple[str, Any]]:
        value = self.get(name)
        items = tuple(value.items()) if isinstance(value, Mapping) else value
        if not isinstance(items, tuple) or not all(_is_pair(item) for item in items):
            raise ValueError(f"{name}: expected pairs of a name and a value, got {type(value).__name__}")
        return list(items)


def pairs(memory: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What is remembered by name, as it stands in a state.

    A state keeps its keys, whatever it remembers: `torch.distributed.checkpoint` loads into the keys that a fresh
    clipper's state has, and fits tensors to the sizes there. Tuples it takes as they are.
    """
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in memory.items())


def copied(value: Any) -> Any:
    """A state's value with its tensors copied, so that later steps don't change it."""
    if isinstance(value, tuple):
        return tuple(copied(item) for item in value)
    return value.detach().clone() if isinstance(value, Tensor) else value


def num_bytes(value: Any) -> int:
    """The size of what a state's value remembers."""
    if isinstance(value, Mapping):
        return sum(num_bytes(item) for item in value.values())
    if isinstance(value, tuple):
        return sum(num_bytes(item) for item in value)
    if isinstance(value, Tensor):
        return value.nbytes
    return 8 if isinstance(value, float) else 0


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _number(name: str, value: object, signed: bool = False) -> float:
    largest = sys.float_info.max
    lowest, allowed = (-largest, "a finite number") if signed else (0.0, "a finite number >= 0")
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= largest:
        raise ValueError(f"{name}: expected {allowed}, got {value!r}")
    return float(value)


def _tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta or not value.is_floating_point():
        raise ValueError(f"{name}: expected a dense tensor of floating-point numbers, got {value!r}")
    if not value.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got {value!r}")
    return value


def _norms(name: str, value: object) -> Tensor:
    norms = _tensor(name, value)
    if norms.ndim != 1 or not (norms > 0).all():
        raise ValueError(f"{name}: expected norms > 0 in one dimension, got a tensor of shape {tuple(norms.shape)}")
    return norms
