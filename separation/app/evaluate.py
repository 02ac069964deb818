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
from separation.evaluation.audio_examples import choose_examples, remove_audio
from separation.evaluation.evaluator import EvaluationSettings, Evaluator, ModelEstimator
from separation.evaluation.oracles import OracleEstimator
from separation.evaluation.summary import summarize, write_scores, write_summary
from separation.runs import checkpoint
from separation.runs.atomic_files import check_writable
from separation.runs.provenance import provenance
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import MODEL, load_summary, score_table
from separation.runs.untrusted_files import check_targets
from separation.training.processes import Processes

PROGRAM_KEYS = ("run", "oracle", "weights", "separator", "output", "allow")
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
        own = folder.path if program.weights == "best" else folder.path / "averaged"
        output = own if program.output is None else Path(str(program.output))
        check_writable("output", output)
        config = run_config(folder, overrides, program.separator, program.allow)
        set_threads(config)
        settings.check_rate(config.data.sample_rate)
        data = run_data(config, overrides)
        if output.resolve() == own.resolve():
            check_output(folder, config, data)
        else:
            check_no_run(output)
        summary = score_run(folder, config, data, settings, output, command, weights=program.weights)
    else:
        output = Path("outputs") / str(program.oracle) if program.output is None else Path(str(program.output))
        check_writable("output", output)
        check_no_run(output)
        config = compose_config("config", overrides)
        set_threads(config)
        settings.check_rate(config.data.sample_rate)
        summary = score_oracle(program.oracle, config, build_data(config), settings, output, command)
    return output, summary


def check_no_run(output: Path) -> None:
    """Raises InputError where a folder holds a run, whose scores others would replace."""
    if RunFolder(output).config.is_file():
        raise InputError(f"output={output}: holds a run, whose scores would be replaced; give another folder")


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
    weights: str = "best",
) -> dict[str, Any]:
    """Scores a run's best checkpoint, or the averaged weights; see `score`. Where its scores are replaced, the summary
    keeps the training's provenance and says where the scores come from beside it, as `scored`."""
    model = load_model(folder, config, weights)
    estimator = ModelEstimator(model.network, model.separator, model.stft, model.device)
    evaluator = Evaluator(estimator, model.stft, settings, processes)
    origin = {"estimator": MODEL, "weights": weights, "provenance": provenance(command, config.seed)}
    before = load_summary(folder) if output.resolve() == folder.path.resolve() else None
    if before is not None and "provenance" in before:
        origin |= {"provenance": before["provenance"], "scored": origin["provenance"]}
    trained_on = checkpoint.load(folder.best, torch.device("cpu")).get("data")
    heard = data.train.speakers() if trained_on == data.digest() else None  # of another corpus nobody can say
    return score(evaluator, data, output, origin, heard)


def score_oracle(
    name: str, config: DictConfig, data: Data, settings: EvaluationSettings, output: Path, command: str
) -> dict[str, Any]:
    """Scores a mask computed from the references, or the mixture as it is; see `score`."""
    stft = build(config, "stft")
    evaluator = Evaluator(OracleEstimator(name, stft), stft, settings)
    return score(evaluator, data, output, {"estimator": name, "provenance": provenance(command, config.seed)})


def score(
    evaluator: Evaluator,
    data: Data,
    output: Path,
    origin: dict[str, Any],
    heard: Collection[str] | None = None,
) -> dict[str, Any]:
    """The main process writes `scores.csv`, `summary.json` and `audio/` to `output`; all return the summary.

    The summary's top level is that of the `test` split; `splits` has every one. An oracle's scores bear its name.

    Args:
        origin: what the summary says of where the scores come from; `estimator`: the model, or which oracle.
        heard: the speakers that the network was trained on; None: nobody knows, or there is no network.
    """
    sexes = data.corpus.sexes()
    rows = {mixtures.split: evaluator.evaluate(mixtures) for mixtures in data.tests}
    splits = {split: summarize(split_rows, heard, sexes) for split, split_rows in rows.items()}
    examples = {split: choose_examples(split_rows, evaluator.settings.num_audio) for split, split_rows in rows.items()}
    audio = [
        {"folder": f"audio/{example.folder}", **example._asdict()}
        for of_split in examples.values()
        for example in of_split
    ]
    top = {name: value for name, value in splits["test"].items() if name != "speakers"}
    summary = {**top, "splits": splits, "audio": audio, **origin}
    if evaluator.processes.is_main:
        target = RunFolder(output)
        output.mkdir(parents=True, exist_ok=True)
        if target.summary.is_file() or target.config.is_file():
            remove_audio(target.audio)
        for mixtures in data.tests:
            evaluator.write_examples(mixtures, examples[mixtures.split], target.audio)
        label = {} if origin["estimator"] == MODEL else {"estimator": origin["estimator"]}
        write_scores(target.scores, [{**row, **label} for split_rows in rows.values() for row in split_rows])
        write_summary(target.summary, summary)
    return summary


def main() -> None:
    """Evaluates as the command line says, and prints the table."""

    def evaluate() -> None:
        output, summary = evaluate_run(arguments(__doc__, "evaluate", positional=["run"]))
        print(f"\n{output}\n\n{score_table(summary['splits'], summary['estimator'])}")

    entry_point(evaluate)


if __name__ == "__main__":
    main()
