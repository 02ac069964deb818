"""Scores a run's best model on its test splits and writes them to a folder."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from separation.assembly import Data, load_model
from separation.evaluation import EvaluationSettings, Evaluator, summarize, write_scores, write_summary
from separation.provenance import provenance
from separation.run_folder import RunFolder


def score_run(
    folder: RunFolder, config: DictConfig, data: Data, settings: EvaluationSettings, output: Path, command: str
) -> dict[str, Any]:
    """Writes `scores.csv`, `summary.json` and `audio/` to `output` and returns the summary.

    The summary's top level is that of the `test` split; `splits` has every one.
    """
    model = load_model(folder, config)
    evaluator = Evaluator(model.network, model.separator, model.stft, model.device, settings)
    target = RunFolder(output)
    output.mkdir(parents=True, exist_ok=True)
    rows = {mixtures.split: evaluator.evaluate(mixtures, target.audio) for mixtures in data.tests}
    splits = {split: summarize(split_rows) for split, split_rows in rows.items()}
    summary = {**splits["test"], "splits": splits, "provenance": provenance(command, config.seed)}
    write_scores(target.scores, [row for split_rows in rows.values() for row in split_rows])
    write_summary(target.summary, summary)
    return summary
