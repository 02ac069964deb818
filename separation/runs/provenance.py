"""Where a result comes from: what a reader needs to make it again."""

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from separation.runs.atomic_files import write_text


def provenance(command: str, seed: int) -> dict[str, str | int]:
    """Command, commit, seed, machine and date."""
    return {
        "command": command,
        "commit": _commit(),
        "seed": seed,
        "machine": _machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def write_json(path: Path, results: dict[str, Any], seed: int = 0) -> None:
    """Writes a program's results with where they come from. Of paths in its command, the last part is kept."""
    program = Path(sys.argv[0])
    typed = [re.sub(r"(?<==)/[^,\]]*/", "", argument) for argument in sys.argv[1:]]
    origin = provenance(" ".join([f"python {program.parent.name}/{program.name}", *typed]), seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**results, "provenance": origin}, indent=1) + "\n")


def _commit() -> str:
    """The source tree's commit, "-dirty" where code was changed since; "unknown" outside a repository."""
    try:
        commit = _git("describe", "--always", "--abbrev=10")
        changed = _git("status", "--porcelain", "--untracked-files=no", ":/", ":(top,exclude)notebooks")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{platform.machine()}, {device}, torch {torch.__version__}, {torch.get_num_threads()} threads"
