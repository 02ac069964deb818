"""Draws Figure 1 of the paper: `python scripts/plot_dynamics.py UNCLIPPED_RUN CLIPPED_RUN OUTPUT.png|OUTPUT.gif`.

Both runs were trained with trainer.dynamics_steps=20 (recipes/paper/dynamics.sh). Four panels: step size; logarithm of
the loss; local smoothness against gradient norm, without clipping and with AutoClip. A GIF grows with training. Prints
both correlations, step-size variances and test scores.
"""

import sys
from pathlib import Path

import numpy as np

from separation.app import command as cli
from separation.errors import InputError
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, table
from separation.studies.dynamics import Dynamics, dynamics_animation, dynamics_figure, load_dynamics

NAMES = ("no clipping", "AutoClip")


def row(run: Dynamics, folder: RunFolder) -> list[str]:
    """What the paper says of a run in figures."""
    summary = load_summary(folder)
    settled = run.step_size[len(run.step_size) // 4 :]
    return [
        run.name,
        f"{run.correlation:.2f}",
        f"{np.var(run.step_size):.2g}",
        f"{np.var(settled):.2g}",
        f"{summary['si_sdr']:.2f}" if summary else "-",
    ]


def main() -> None:
    """Draws and prints."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    paths = [Path(argument) for argument in sys.argv[1:]]
    if len(paths) != 3 or paths[2].suffix not in (".png", ".svg", ".pdf", ".gif"):
        raise InputError("expected UNCLIPPED_RUN CLIPPED_RUN OUTPUT.png (or .svg, .pdf, .gif); --help says more")
    folders, output = [RunFolder(path) for path in paths[:2]], paths[2]
    runs = [load_dynamics(folder, name) for folder, name in zip(folders, NAMES, strict=True)]
    if runs[0].is_clipped:
        raise InputError(f"{paths[0]}: its gradients are clipped; give the run without clipping first")
    header = ["run", "r", "step size's variance", "after the first quarter", "test SI-SDR [dB]"]
    print(table(header, [row(run, folder) for run, folder in zip(runs, folders, strict=True)]))
    if output.suffix == ".gif":
        dynamics_animation(output, *runs)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            dynamics_figure(*runs).savefig(temporary, dpi=110, format=output.suffix[1:])
    print(output)


if __name__ == "__main__":
    cli.entry_point(main)
