"""How figures look, and how they are written."""

from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from separation.runs.atomic_files import replacing

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which the color-blind tell apart, without their yellow, which is faint on white."""
LINES = ("-", "--", "-.", ":")
DOTS_PER_INCH = 200

matplotlib.use("Agg")  # figures are files here, on machines without a screen too
matplotlib.rcParams["axes.prop_cycle"] = cycler(color=COLORS)
matplotlib.rcParams["svg.hashsalt"] = "separation"  # the same figure is the same file


def line_style(number: int) -> dict[str, Any]:
    """Color and dashes of the line of this 0-based number; 28 differ."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": LINES[number // len(COLORS) % len(LINES)]}


def save(figure: Figure, output: Path) -> None:
    """Writes a figure whole, in the format of the file's suffix."""
    output.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if output.suffix == ".svg" else None
    with replacing(output) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, format=output.suffix[1:], metadata=metadata)
