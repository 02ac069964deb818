"""The command line as people type it, in Hydra's grammar: paths are taken literally, some may go without their key."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from separation.errors import InputError
from separation.runs.paths import as_on_disk

PATH_KEYS = frozenset(
    {
        *("run", "file", "input", "root", "url", "output", "store", "run_dir", "init_from", "resume"),
        *("data.root", "data.store", "data.metadata"),
    }
)
PATHS_OR_LISTS = frozenset({"data.train", "data.valid", "data.test"})
"""Tables of data=csv, and lists of subsets of other corpora."""
MAY_BE_NULL = frozenset({"run", "output", "root", "url", "data.store", "data.metadata", "store", "init_from", "resume"})
MAY_HOLD_SETTINGS = frozenset({"run_dir", "init_from", "data.root", "data.store", "data.metadata", *PATHS_OR_LISTS})
"""In these ${...} stands for another setting, as in run_dir=runs/${seed}; in others it is part of the name."""
PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./:@%+-]*")
"""What Hydra reads as the text that it is."""
WORDS = ("null", "true", "false", "yes", "no", "on", "off", "inf", "nan")


def literal(argument: str) -> str:
    """An argument whose value is a path, so that Hydra takes it for one: quoted where it has spaces, commas, brackets,
    letters beyond ASCII or looks like a number; `~` expanded. What is quoted already stays as it is."""
    key, equals, value = argument.partition("=")
    is_path = key in PATH_KEYS or (key in PATHS_OR_LISTS and not value.startswith("["))
    is_null = value == "null" and key in MAY_BE_NULL
    if not (equals and is_path and value) or is_null or (value[0] == value[-1] and value[0] in "'\""):
        return argument
    if value.startswith("~") or not value.isascii():
        value = str(as_on_disk(Path(os.path.expanduser(value))))
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return f"{key}={value}"
    if key not in MAY_HOLD_SETTINGS:
        value = value.replace("${", r"\${")
    return f"{key}={QuotedString(text=value, quote=Quote.single).with_quotes()}"


def with_keys(typed: Iterable[str], positional: Sequence[str], usage: str) -> list[str]:
    """Arguments with their keys: those without one get the positional ones, in their order.

    Raises:
        InputError: there are more than that, or an option.
    """
    keys = list(positional)
    arguments = []
    for argument in typed:
        if argument.startswith("-") or ("=" not in argument and not keys):
            raise InputError(f"{argument}: expected key=value; usage: {' '.join(usage.split())}")
        is_path = "/" in argument.partition("=")[0] or os.path.lexists(argument)  # a sweep's folder, a=b.wav
        has_key = "=" in argument and not (keys and is_path)
        arguments.append(argument if has_key else f"{keys.pop(0)}={argument}")
    return arguments
