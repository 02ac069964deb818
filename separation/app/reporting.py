"""The report that a run or a sweep ends with."""

import logging
from collections.abc import Callable
from pathlib import Path

from hydra.conf import HydraConf
from hydra.types import RunMode

from separation.app.command import print_error


def in_sweep(hydra_config: HydraConf | None) -> bool:
    """Whether Hydra started a run as one of a sweep's, which has one report for all."""
    return hydra_config is not None and hydra_config.mode == RunMode.MULTIRUN


def report_at_end(folder: Path, say: Callable[[str], object]) -> None:
    """Writes a report of a run, or of a sweep's runs, and says where it is; or prints why there is none: what was
    trained and scored doesn't depend on it."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # which tells of its font cache
    from separation.report.page import write_report  # a second's worth of plotting libraries

    output = folder / "report.html"
    try:
        write_report([folder], output)
    except Exception as error:
        print_error(error, "no report: ")
    else:
        say(f"\nto look at and to listen to, in a browser:\n{output}")
