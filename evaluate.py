"""Scores a trained run: `python evaluate.py run=RUN_DIR [metrics=torch] [bss_eval=true] [data.root=...] ...`; or an
oracle, which needs no run: `python evaluate.py oracle=ideal_binary [data=...] ...`.

conf/evaluate.yaml lists the program's own keys; every other override goes onto the run's saved settings.
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from separation import cli
from separation.assembly import build, build_data, set_threads
from separation.errors import InputError
from separation.results import score_table
from separation.run_folder import MAY_CHANGE
from separation.scoring import score_oracle, score_run

OWN = ("run", "oracle", "separator", "output")


def check_output(arguments: list[str]) -> None:
    """Raises InputError where scores of other mixtures or another separator would replace the run's own."""
    others = [item for item in arguments if item.startswith(("data", "mixing.", "model.", "separator="))]
    others = [item for item in others if not item.startswith(MAY_CHANGE)]
    if others:
        raise InputError(
            f"{others[0]}: the run's own scores are of other settings and would be replaced; give output=FOLDER"
        )


def main() -> None:
    """Evaluates the best checkpoint and prints the table."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\n{(cli.CONF / 'evaluate.yaml').read_text()}")
        return
    own, overrides = cli.split_overrides(arguments, "evaluate")
    settings = build(OmegaConf.create({"evaluation": {key: own[key] for key in own if key not in OWN}}), "evaluation")
    command = " ".join(["python evaluate.py", *arguments])
    if own.oracle is None:
        folder = cli.run_folder(own.run)
        config = cli.run_config(folder, overrides)
        if own.output is None:
            check_output(arguments)
        cli.use_separator(config, own.separator)
        set_threads(config)
        output = folder.path if own.output is None else Path(str(own.output))
        summary = score_run(folder, config, cli.run_data(config, overrides), settings, output, command)
    else:
        config = cli.compose_config("config", overrides)
        set_threads(config)
        output = Path("outputs") / str(own.oracle) if own.output is None else Path(str(own.output))
        summary = score_oracle(own.oracle, config, build_data(config), settings, output, command)
    print(f"\n{output}\n\n{score_table(summary['splits'])}")


if __name__ == "__main__":
    cli.entry_point(main)
