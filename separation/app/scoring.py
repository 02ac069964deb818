"""Scores a run's best model, or an oracle, on a corpus's test splits and writes them to a folder."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from separation.app.assembly import build, load_model
from separation.data.mixtures import Data
from separation.evaluation.evaluator import (
    EvaluationSettings,
    Evaluator,
    ModelEstimator,
    OracleEstimator,
    summarize,
    write_scores,
    write_summary,
)
from separation.runs.provenance import provenance
from separation.runs.run_folder import RunFolder
from separation.runs.summaries import load_summary
from separation.training.processes import Processes


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
    return score(evaluator, data, output, origin)


def score_oracle(
    name: str, config: DictConfig, data: Data, settings: EvaluationSettings, output: Path, command: str
) -> dict[str, Any]:
    """Scores a mask computed from the references, or the mixture as it is; see `score`."""
    stft = build(config, "stft")
    evaluator = Evaluator(OracleEstimator(name, stft), stft, settings)
    return score(evaluator, data, output, {"provenance": provenance(command, config.seed)})


def score(evaluator: Evaluator, data: Data, output: Path, origin: dict[str, dict[str, str | int]]) -> dict[str, Any]:
    """The main process writes `scores.csv`, `summary.json` and `audio/` to `output`; all return the summary.

    The summary's top level is that of the `test` split; `splits` has every one.
    """
    rows = {mixtures.split: evaluator.evaluate(mixtures) for mixtures in data.tests}
    splits = {split: summarize(split_rows) for split, split_rows in rows.items()}
    summary = {**splits["test"], "splits": splits, **origin}
    if evaluator.processes.is_main:
        target = RunFolder(output)
        output.mkdir(parents=True, exist_ok=True)
        for mixtures in data.tests:
            evaluator.write_examples(mixtures, target.audio)
        write_scores(target.scores, [row for split_rows in rows.values() for row in split_rows])
        write_summary(target.summary, summary)
    return summary
