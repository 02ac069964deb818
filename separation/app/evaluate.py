"""Scores a trained run: `python evaluate.py run=RUN_DIR [metrics=torch] [bss_eval=true] [data.root=...] ...`; or an
oracle, which needs no run: `python evaluate.py oracle=ideal_binary [data=...] ...`.

conf/evaluate.yaml lists the program's keys; every other override goes onto the run's saved settings.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from separation.app.assembly import build, build_data, load_model, set_threads
from separation.app.command import entry_point
from separation.app.settings import arguments, compose_config, run_config, run_data, run_folder, split_overrides
from separation.data.mixtures import Data
from separation.errors import InputError
from separation.evaluation.evaluator import (
    EvaluationSettings,
    Evaluator,
    ModelEstimator,
    summarize,
    write_scores,
    write_summary,
)
from separation.evaluation.oracles import OracleEstimator
from separation.runs import checkpoint
from separation.runs.atomic_files import check_writable
from separation.runs.provenance import provenance
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary, score_table
from separation.runs.untrusted_files import check_targets
from separation.training.processes import Processes

PROGRAM_KEYS = ("run", "oracle", "separator", "output", "allow")
"""The other keys of conf/evaluate.yaml are `EvaluationSettings`."""


def evaluate_run(typed: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """Scores a run's best checkpoint, or an oracle.

    Args:
        typed: settings as on the command line.

    Returns:
        The folder of the scores, and their summary.
    """
    program, overrides = split_overrides(typed, "evaluate")
    evaluation = OmegaConf.create({"evaluation": {key: program[key] for key in program if key not in PROGRAM_KEYS}})
    check_targets(evaluation)
    settings = build(evaluation, "evaluation")
    command = " ".join(["python evaluate.py", *typed])
    if program.oracle is None:
        folder = run_folder(program.run)
        output = folder.path if program.output is None else Path(str(program.output))
        check_writable("output", output)
        config = run_config(folder, overrides, program.separator, program.allow)
        set_threads(config)
        data = run_data(config, overrides)
        if output.resolve() == folder.path.resolve():
            check_output(folder, config, data)
        summary = score_run(folder, config, data, settings, output, command)
    else:
        output = Path("outputs") / str(program.oracle) if program.output is None else Path(str(program.output))
        check_writable("output", output)
        config = compose_config("config", overrides)
        set_threads(config)
        summary = score_oracle(program.oracle, config, build_data(config), settings, output, command)
    return output, summary


def check_output(folder: RunFolder, config: DictConfig, data: Data) -> None:
    """Raises InputError where a run's scores would be replaced by those of other mixtures or another separator."""
    problems = folder.changed(config)
    digest = data.digest()
    if not problems and checkpoint.load(folder.best, torch.device("cpu")).get("data", digest) != digest:
        problems = ["data.root: its recordings are not those of the run"]
    if problems:
        raise InputError(f"{problems[0]}: the scores in {folder.path} would be replaced; give output=FOLDER")


def score_run(
    folder: RunFolder,
    config: DictConfig,
    data: Data,
    settings: EvaluationSettings,
    output: Path,
    command: str,
    processes: Processes | None = None,
) -> dict[str, Any]:
    """Scores a run's best checkpoint; see `score`. Where its scores are replaced, the summary keeps the training's
    provenance and says where the scores come from beside it, as `scored`."""
    model = load_model(folder, config)
    estimator = ModelEstimator(model.network, model.separator, model.stft, model.device)
    evaluator = Evaluator(estimator, model.stft, settings, processes)
    origin = {"provenance": provenance(command, config.seed)}
    before = load_summary(folder) if output.resolve() == folder.path.resolve() else None
    if before is not None and "provenance" in before:
        origin = {"provenance": before["provenance"], "scored": origin["provenance"]}
    trained_on = checkpoint.load(folder.best, torch.device("cpu")).get("data")
    heard = data.train.speakers() if trained_on == data.digest() else None  # of another corpus nobody can say
    return score(evaluator, data, output, origin, heard)


def score_oracle(
    name: str, config: DictConfig, data: Data, settings: EvaluationSettings, output: Path, command: str
) -> dict[str, Any]:
    """Scores a mask computed from the references, or the mixture as it is; see `score`."""
    stft = build(config, "stft")
    evaluator = Evaluator(OracleEstimator(name, stft), stft, settings)
    return score(evaluator, data, output, {"provenance": provenance(command, config.seed)})


def score(
    evaluator: Evaluator,
    data: Data,
    output: Path,
    origin: dict[str, dict[str, str | int]],
    heard: Collection[str] | None = None,
) -> dict[str, Any]:
    """The main process writes `scores.csv`, `summary.json` and `audio/` to `output`; all return the summary.

    The summary's top level is that of the `test` split; `splits` has every one.

    Args:
        heard: the speakers that the network was trained on; None: nobody knows, or there is no network.
    """
    rows = {mixtures.split: evaluator.evaluate(mixtures) for mixtures in data.tests}
    splits = {split: summarize(split_rows, heard) for split, split_rows in rows.items()}
    summary = {**splits["test"], "splits": splits, **origin}
    if evaluator.processes.is_main:
        target = RunFolder(output)
        output.mkdir(parents=True, exist_ok=True)
        for mixtures in data.tests:
            evaluator.write_examples(mixtures, target.audio)
        write_scores(target.scores, [row for split_rows in rows.values() for row in split_rows])
        write_summary(target.summary, summary)
    return summary


def main() -> None:
    """Evaluates as the command line says, and prints the table."""

    def evaluate() -> None:
        output, summary = evaluate_run(arguments(__doc__, "evaluate", positional=["run"]))
        print(f"\n{output}\n\n{score_table(summary['splits'])}")

    entry_point(evaluate)


if __name__ == "__main__":
    main()
