"""Scores a trained run: `python evaluate.py run=RUN_DIR [metrics=torch] [bss_eval=true] [data.root=...] ...`.

conf/evaluate.yaml lists the program's own keys; every other override goes onto the run's saved settings.
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from separation import cli
from separation.assembly import build, build_data, set_threads
from separation.results import score_table
from separation.scoring import score_run


def main() -> None:
    """Evaluates the best checkpoint and prints the table."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\n{(cli.CONF / 'evaluate.yaml').read_text()}")
        return
    own, overrides = cli.split_overrides(arguments, "evaluate")
    folder = cli.run_folder(own.run)
    config = cli.run_config(folder, overrides)
    set_threads(config)
    chosen = OmegaConf.masked_copy(own, [key for key in own if key not in ("run", "output")])
    settings = build(OmegaConf.create({"evaluation": chosen}), "evaluation")
    command = " ".join(["python evaluate.py", *arguments])
    output = folder.path if own.output is None else Path(str(own.output))
    summary = score_run(folder, config, build_data(config), settings, output, command)
    print(f"\n{output}\n\n{score_table(summary['splits'])}")


if __name__ == "__main__":
    cli.entry_point(main)
