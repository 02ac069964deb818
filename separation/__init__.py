"""Trains networks that separate sources, and compares how their gradients are clipped; see README.md.

`train`, `evaluate` and `load` are imported when they are first used (separation/app/api.py).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separation.app.api import evaluate, load, train
    from separation.errors import InputError

__all__ = ["InputError", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'separation' has no attribute {name!r}")
    return getattr(import_module("separation.errors" if name == "InputError" else "separation.app.api"), name)
