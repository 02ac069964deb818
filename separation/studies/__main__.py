"""Tables and figures over many runs: `python -m separation.studies --help`."""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from separation.app.command import entry_point
from separation.errors import InputError
from separation.runs.run_folder import RunFolder
from separation.studies.compare import METRICS, Comparison
from separation.studies.conditions import Conditions
from separation.studies.curves import CURVE_COLUMNS, collect_curves
from separation.studies.drawing import save
from separation.studies.gains import VALIDATION_COLUMNS, Gains, collect_validation, load_validation
from separation.studies.paired_mixtures import MIXTURE_COLUMNS, PairedMixtures, collect_mixtures, load_mixtures
from separation.studies.rates import Rates
from separation.studies.run_scores import RunScores
from separation.studies.run_table import collect_runs, join, load_runs, read_table, write_table
from separation.studies.scales import Scales
from separation.studies.strategies import Strategies
from separation.studies.table1 import Table1
from separation.studies.table_formats import FORMATS
from separation.studies.tuning import Tuning

STUDIES: dict[str, tuple[Any, Any, str]] = {
    "gains": (
        load_validation,
        Gains,
        "when AutoClip's gain appears: validation over steps (recipes/paper/real_speech.sh)",
    ),
    "mixtures": (
        load_mixtures,
        PairedMixtures,
        "what clipping gains mixture by mixture, with the chance of seeds and mixtures",
    ),
    "rates": (load_runs, Rates, "learning rates with and without clipping, the best against the best"),
    "tuning": (load_runs, Tuning, "what finding a threshold costs (recipes/clipping/tune.sh)"),
    "table1": (load_runs, Table1, "Table 1 of the paper: percentiles by losses (recipes/paper/table1.sh)"),
    "strategies": (
        load_runs,
        Strategies,
        "clipping strategies beside no clipping and AutoClip (recipes/clipping/compare.sh)",
    ),
    "scales": (load_runs, Scales, "strategies where the loss has other units (recipes/clipping/scale.sh)"),
    "conditions": (load_runs, Conditions, "strategies by training condition (recipes/paper/conditions.sh)"),
}
OTHER_TABLES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "curves": (collect_curves, CURVE_COLUMNS),
    "validation": (collect_validation, VALIDATION_COLUMNS),
    "mixtures": (collect_mixtures, MIXTURE_COLUMNS),
}
"""What `collect` writes instead of a row a run, by its option."""
PICTURES = (".png", ".svg", ".pdf")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    program = argparse.ArgumentParser("python -m separation.studies", description="Tables and figures over many runs.")
    commands = program.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (*_, purpose) in STUDIES.items():
        command = commands.add_parser(name, help=purpose, description=f"Prints {purpose}.")
        command.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folder of runs, or table (.csv)")
        command.add_argument("--mixed", action="store_true", help="take runs that differ, and say in what they do")
        output_help = f"writes the figure ({', '.join(PICTURES)}) or the table ({', '.join(FORMATS)})"
        command.add_argument("--output", type=Path, metavar="FILE", help=output_help)

    purpose = "Figure 1 of the paper: training without and with clipping (recipes/paper/dynamics.sh)"
    command = commands.add_parser("dynamics", help=purpose, description=f"Draws {purpose}.")
    for name in ("unclipped", "clipped"):
        command.add_argument(name, type=Path, metavar=name.upper(), help="run with trainer.dynamics_steps=20")
    suffixes = f"{', '.join(PICTURES)}, or .gif, which grows with training"
    command.add_argument("--output", type=Path, metavar="FILE", required=True, help=suffixes)

    purpose = "two runs mixture by mixture: mean difference, its interval, a paired test"
    command = commands.add_parser("compare", help=purpose, description=f"Compares {purpose}.")
    for name in ("a", "b"):
        command.add_argument(name, type=Path, metavar=f"RUN_{name.upper()}", help="folder with a scores.csv")
    command.add_argument("--metric", default="si_sdr", metavar="COLUMN", help=", ".join(METRICS))
    output_help = f"writes the scatter of B over A ({', '.join(PICTURES)}) or the table ({', '.join(FORMATS)})"
    command.add_argument("--output", type=Path, metavar="FILE", help=output_help)

    purpose = "the scores of runs, a row each, as a table for a report"
    command = commands.add_parser("table", help=purpose, description=f"Prints {purpose}.")
    command.add_argument("folders", nargs="+", type=Path, metavar="RUNS", help="run, or folder of runs")
    command.add_argument("--output", type=Path, metavar="FILE", help=f"writes the table ({', '.join(FORMATS)})")

    purpose = "finished runs in a table; rows that it holds stay"
    command = commands.add_parser("collect", help=purpose, description=f"Collects {purpose}.")
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run, or folder of runs")
    command.add_argument("output", type=Path, metavar="OUTPUT.csv", help="table")
    instead = command.add_mutually_exclusive_group()
    instead.add_argument("--curves", action="store_true", help="their curves instead, a row per 50 steps, all anew")
    instead.add_argument("--validation", action="store_true", help="their validation instead, a row an epoch, all anew")
    instead.add_argument("--mixtures", action="store_true", help="their scores of each mixture instead, all anew")
    return program


def main() -> None:
    """Runs one of the commands."""
    arguments = parser().parse_args()
    if arguments.command == "collect":
        collect(arguments)
    elif arguments.command == "table":
        check_output(arguments.output, FORMATS)
        present("table", RunScores(arguments.folders), arguments.output)
    elif arguments.command == "compare":
        check_output(arguments.output)
        present("compare", Comparison((arguments.a, arguments.b), arguments.metric), arguments.output)
    elif arguments.command == "dynamics":
        draw_dynamics(RunFolder(arguments.unclipped), RunFolder(arguments.clipped), arguments.output)
    else:
        study(arguments.command, arguments.runs, arguments.mixed, arguments.output)


def study(name: str, paths: list[Path], mixed: bool, output: Path | None) -> None:
    """Presents a study of runs."""
    check_output(output, inputs=paths)
    load, make, _ = STUDIES[name]
    present(name, make(load(paths), mixed), output)


def check_output(
    output: Path | None, suffixes: Collection[str] = (*PICTURES, *FORMATS), inputs: Sequence[Path] = ()
) -> None:
    """Raises InputError where what a command makes can't be written to `output`."""
    if output and (output in inputs or output.suffix not in suffixes):
        raise InputError(f"--output {output}: expected a new file with suffix {', '.join(suffixes)}")


def present(name: str, result: Any, output: Path | None) -> None:
    """Prints a study's report; writes its figure or table where there is an output."""
    report = result.report()
    print(report)
    if output and output.suffix in PICTURES:
        from separation.studies.figures import FIGURES

        if type(result) not in FIGURES:
            raise InputError(f"--output {output}: {name} draws no figure; give a table ({', '.join(FORMATS)})")
        save(FIGURES[type(result)](result), output)
    elif output:
        report.write(output)


def draw_dynamics(unclipped: RunFolder, clipped: RunFolder, output: Path) -> None:
    """Draws two runs' dynamics, and prints what the paper says of them in numbers."""
    from separation.studies.dynamics import (
        dynamics_animation,
        dynamics_figure,
        dynamics_table,
        is_clipped,
        load_dynamics,
    )

    if output.suffix not in (*PICTURES, ".gif"):
        raise InputError(f"--output {output}: expected a file with suffix {', '.join(PICTURES)} or .gif")
    runs = load_dynamics(unclipped), load_dynamics(clipped)
    if is_clipped(runs[0]):
        raise InputError(f"{unclipped.path}: its gradients are clipped; give the run without clipping first")
    print(dynamics_table(runs, (unclipped, clipped)))
    if output.suffix == ".gif":
        dynamics_animation(output, runs)
    else:
        save(dynamics_figure(runs), output)
    print(output)


def collect(arguments: argparse.Namespace) -> None:
    """Writes finished runs, or their curves, validation or mixtures, to a table."""
    folders, output = arguments.folders, arguments.output
    if output.suffix != ".csv":
        raise InputError(f"{output}: expected FOLDER [FOLDER ...] OUTPUT.csv; --help says more")
    for name, (collect_them, columns) in OTHER_TABLES.items():
        if getattr(arguments, name):
            table = collect_them(folders)
            write_table(output, table, columns)
            print(f"{output}: {len(table)} rows")
            return
    runs, unfinished = collect_runs(folders)
    kept = read_table(output) if output.exists() else runs[:0]
    table = join([kept, runs])
    write_table(output, table)
    print(f"{output}: {len(table) - len(kept)} new, {len(kept)} kept, {unfinished} unfinished")


if __name__ == "__main__":
    entry_point(main)
