"""The report as a file: everything that the page needs is in it, and it loads nothing."""

import gzip
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from separation.errors import InputError
from separation.report import tables
from separation.report.curves import charts, splits
from separation.report.examples import MOST_COMPARED, Example, fill, find_examples
from separation.report.runs import ReportedRun, read_runs, variants
from separation.runs.atomic_files import replacing
from separation.studies.run_figures import DYNAMIC_RANGE_DB

LARGEST_PAGE = 10_000_000
"""In bytes; what it holds otherwise is small, so recordings are shortened and left out to keep to it."""
NUM_COLORS = 6
"""That page.css has; further variants share them, and are dashed."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "14 4", "4 2 1 2")
MOST_OPEN = 2
"""Runs of a mixture, and runs with mixtures of their own, that stand open; more lie folded below them."""


def write_report(paths: Sequence[Path], output: Path) -> None:
    """Writes one HTML file on runs, finished or not.

    Args:
        paths: runs, or folders of runs.

    Raises:
        InputError: there is no run, or a package is missing.
    """
    missing = [name for name in ("jinja2", "plotly") if find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise InputError(f"{output}: not written, since {names} isn't installed; install it with: pip install {names}")
    page = render(read_runs(paths))
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def render(runs: Sequence[ReportedRun]) -> str:
    """The page."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("separation.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html")
    examples = find_examples(runs)
    kinds = variants(runs)
    curves = charts(runs, kinds)
    content: dict[str, Any] = {
        "title": f"Report of {runs[0].name}" if len(runs) == 1 else f"Report of {len(runs)} runs",
        "runs": runs,
        "variants": kinds,
        "variant_of": {run: number for number, kind in enumerate(kinds) for run in kind.numbers},
        "looks": looks(len(kinds)),
        "headline": tables.headline(runs),
        "never_clipped": tables.never_clipped(runs, kinds),
        "settings": tables.settings(runs),
        "shared_settings": tables.shared_settings(runs),
        "speakers": [table for split in splits(runs) if (table := tables.speakers(runs, split)).rows],
        "charts": [chart for chart in curves if not chart["single"]],
        "single_values": [chart for chart in curves if chart["single"]],
        "most_compared": MOST_COMPARED,
        "most_open": MOST_OPEN,
        "has_bands": any(trace["kind"] == "band" for chart in curves for trace in chart["traces"]),
        "dynamic_range": DYNAMIC_RANGE_DB,
        "notes": notes(runs),
        "plotly": plotly(),
    }
    room = LARGEST_PAGE - len(template.render(**content, groups=[], left_out=0).encode())
    filled = fill(examples, runs, room)
    content["notes"] = notes(runs)  # with those of the audio
    return template.render(**content, groups=grouped(filled), left_out=len(examples) - len(filled))


@cache
def plotly() -> str:
    """Plotly's JavaScript, which the page unpacks: 2 MB instead of 5."""
    script = files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    return b64encode(gzip.compress(script, mtime=0)).decode()


def looks(count: int) -> list[dict[str, str]]:
    """Each variant's colour and dashes, the same everywhere on the page."""
    return [
        {"color": f"--run-{number % NUM_COLORS}", "dash": DASHES[number // NUM_COLORS % len(DASHES)]}
        for number in range(count)
    ]


def notes(runs: Sequence[ReportedRun]) -> list[str]:
    """What a reader has to know before the numbers."""
    tested = {
        split: {
            (run.splits[split]["num_mixtures"], run.splits[split].get("input_si_sdr"))
            for run in runs
            if split in run.splits
        }
        for split in splits(runs)
    }
    apart = [split for split, kinds in tested.items() if len(kinds) > 1]
    lines = [f"The runs' {split} mixtures aren't the same, so their scores don't compare." for split in apart]
    return lines + [problem for run in runs for problem in run.problems]


def grouped(examples: Sequence[Example]) -> list[tuple[int, list[Example]]]:
    """Examples by the number of the run that has them first."""
    groups: dict[int, list[Example]] = {}
    for example in examples:
        groups.setdefault(next(iter(example.folders)), []).append(example)
    return list(groups.items())
