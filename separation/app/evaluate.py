"""Scores a trained run: `python evaluate.py run=RUN_DIR [metrics=torch] [bss_eval=true] [data.root=...] ...`; or an
oracle, which needs no run: `python evaluate.py oracle=ideal_binary [data=...] ...`.

conf/evaluate.yaml lists the program's own keys; every other override goes onto the run's saved settings.
"""

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from separation.app import command as cli
from separation.app.assembly import build, build_data, set_threads
from separation.app.scoring import score_oracle, score_run
from separation.data.mixtures import Data
from separation.errors import InputError
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import score_table

OWN = ("run", "oracle", "separator", "output")


def check_output(folder: RunFolder, config: DictConfig, data: Data) -> None:
    """Raises InputError where a run's own scores would be replaced by those of other mixtures or another separator."""
    problems = folder.changed(config)
    digest = data.digest()
    if not problems and checkpoint.load(folder.best, torch.device("cpu")).get("data", digest) != digest:
        problems = ["data.root: its recordings are not those of the run"]
    if problems:
        raise InputError(f"{problems[0]}: the scores in {folder.path} would be replaced; give output=FOLDER")


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
        cli.use_separator(config, own.separator)
        set_threads(config)
        data = cli.run_data(config, overrides)
        output = folder.path if own.output is None else Path(str(own.output))
        if output.resolve() == folder.path.resolve():
            check_output(folder, config, data)
        summary = score_run(folder, config, data, settings, output, command)
    else:
        config = cli.compose_config("config", overrides)
        set_threads(config)
        output = Path("outputs") / str(own.oracle) if own.output is None else Path(str(own.output))
        summary = score_oracle(own.oracle, config, build_data(config), settings, output, command)
    print(f"\n{output}\n\n{score_table(summary['splits'])}")


if __name__ == "__main__":
    cli.entry_point(main)
