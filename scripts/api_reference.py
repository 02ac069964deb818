"""Writes gradclip's reference, gradclip/docs/api.md, from its docstrings: `python scripts/api_reference.py`."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import gradclip
from gradclip import Attachment, Clipper, ClipResult

OUTPUT = Path(__file__).parents[1] / "gradclip/docs/api.md"
FIRST = (Clipper, ClipResult, Attachment)
"""What all strategies have in common comes first."""
ADAPTERS = ("lightning", "huggingface", "accelerate", "ignite")
SECTIONS = ("Args", "Attributes", "Raises", "Returns")


def reference() -> str:
    """The whole page, in Markdown."""
    others = [getattr(gradclip, name) for name in gradclip.__all__]
    objects = [*FIRST, *(each for each in others if each not in FIRST)]
    parts = [
        "# Reference",
        "From the docstrings, by `python scripts/api_reference.py`. All of it is imported from `gradclip`.",
        *(part for each in objects for part in described(each, 2)),
        "# Adapters",
    ]
    for name in ADAPTERS:
        module = importlib.import_module(f"gradclip.adapters.{name}")
        parts += [f"## gradclip.adapters.{name}", markdown(inspect.getdoc(module) or "")]
        parts += [part for each in public(module) for part in described(each, 3)]
    return "\n\n".join(parts) + "\n"


def described(thing: type | object, level: int) -> Iterator[str]:
    """A class or function: heading, signature, documentation; of a class, the methods that are its own."""
    name = getattr(thing, "__name__", str(thing))
    if not callable(thing):
        return
    yield f"{'#' * level} {name}"
    if isinstance(thing, type) and issubclass(thing, BaseException):
        yield markdown(inspect.getdoc(thing) or "")
        return
    yield f"```python\n{name}{signature(thing)}\n```"
    yield markdown(inspect.getdoc(thing) or "")
    if not isinstance(thing, type):
        return
    for key, member in vars(thing).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__wrapped__", member)
        if key.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        heading = f"`{key}`" if isinstance(member, property) else f"`{key}{signature(function)}`"
        yield f"**{heading}**"
        yield markdown(inspect.getdoc(function) or "")


def signature(function: object) -> str:
    """Arguments as one writes them, without `self` and modules' names."""
    found = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [parameter for name, parameter in found.parameters.items() if name != "self"]
    text = str(found.replace(parameters=parameters)).replace(" -> None", "")
    text = re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", text)
    text = re.sub(r"((?:->|:) )'([^']*)'", r"\1\2", text)  # annotations that are strings
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", text)


def markdown(text: str) -> str:
    """A docstring with its sections as lists."""
    lines, in_section = [], False
    for line in text.splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            lines += [f"*{line}*", ""]
            in_section = True
        elif in_section and re.match(r"    \S", line):
            name, colon, rest = line.strip().partition(":")
            lines.append(f"- `{name}`:{rest}" if colon else f"- {name}")
        elif in_section and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            in_section = in_section and not line.strip()
            lines.append(line)
    return "\n".join(lines)


def public(module: object) -> list[object]:
    """What a module defines for others."""
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == getattr(module, "__name__", "")
    ]


if __name__ == "__main__":
    OUTPUT.write_text(reference(), encoding="utf-8")
    print(OUTPUT.relative_to(Path.cwd()) if OUTPUT.is_relative_to(Path.cwd()) else OUTPUT)
