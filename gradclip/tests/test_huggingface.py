"""Hugging Face's `Trainer`: what reaches its logs and TensorBoard, and whose checkpoint's state is restored."""

import importlib
import shutil
from pathlib import Path

import pytest
import torch

from gradclip import AutoClip, ClipResult, FixedClip
from test_adapters import Regression, Rows

pytestmark = pytest.mark.slow
LOGGED = ("grad_norm", "clip_threshold", "clip_coefficient", "clipped_fraction")


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch):
    module = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")  # its Trainer needs it
    # transformers imports torchaudio where it is installed, even one that was built for another torch and can't be.
    monkeypatch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
    return module


@pytest.fixture
def adapter(transformers):
    return importlib.import_module("gradclip.adapters.huggingface")


def trainer(transformers, folder: Path, callbacks: list | None = None, **settings: object):
    """Six steps; evaluated, logged and saved after each second one."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=6,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_steps=2,
        max_grad_norm=0,
        use_cpu=True,
        disable_tqdm=True,
        **{"report_to": [], **settings},
    )
    return transformers.Trainer(
        model=Regression(), args=arguments, train_dataset=Rows(), eval_dataset=Rows(), callbacks=callbacks
    )


class Recorded(AutoClip):
    """Keeps all results."""

    def __init__(self) -> None:
        super().__init__(p=50)
        self.results: list[ClipResult] = []

    def apply(self, grads) -> ClipResult:
        self.results.append(super().apply(grads))
        return self.results[-1]


def expected(clipper: Recorded, step: int) -> list[float]:
    result, clipped = clipper.results[step - 1], sum(result.clipped for result in clipper.results[:step])
    return [result.grad_norm, result.threshold, result.coefficient, clipped / step]


def test_a_callbacks_values_reach_the_log_history(transformers, adapter, tmp_path, capsys):
    running = trainer(transformers, tmp_path, [adapter.ClipCallback(clipper := Recorded())])
    running.train()
    rows = [row for row in running.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    for row in rows:
        assert [row[name] for name in LOGGED] == expected(clipper, row["step"])
    assert not any("clip_threshold" in row for row in running.state.log_history if "loss" not in row)
    assert capsys.readouterr().out.count("'clip_threshold'") == 3  # what the trainer prints


def test_attached_values_reach_tensorboard(transformers, adapter, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    running = trainer(transformers, tmp_path, report_to=["tensorboard"])
    callback = adapter.attach(clipper := Recorded(), running)
    running.train()
    assert callback.result is clipper.results[-1]
    board = accumulator.EventAccumulator(str(tmp_path / "board")).Reload()
    for position, name in enumerate(LOGGED):
        values = {event.step: event.value for event in board.Scalars(f"train/{name}")}
        assert values == {step: pytest.approx(expected(clipper, step)[position]) for step in (2, 4, 6)}


def test_the_state_of_another_run_is_refused(transformers, adapter, tmp_path):
    """The trainer doesn't say which checkpoint it resumes from, so another run's could be taken for it."""
    for folder, clipper in (("one", AutoClip()), ("two", FixedClip(0.5))):
        trainer(transformers, tmp_path / folder, [adapter.ClipCallback(clipper)]).train()
    elsewhere = str(tmp_path / "one/checkpoint-4")
    with pytest.raises(ValueError, match="two/checkpoint-4: the training resumes from another run's checkpoint"):
        trainer(transformers, tmp_path / "two", [adapter.ClipCallback(AutoClip())]).train(elsewhere)
    resumed = AutoClip()
    resumed.load_state_dict(torch.load(f"{elsewhere}/clipper.pt", weights_only=True))
    shutil.rmtree(tmp_path / "two")
    trainer(transformers, tmp_path / "two", [adapter.ClipCallback(resumed, missing_ok=True)]).train(elsewhere)
    assert len(list(resumed.history)) == 6


def test_a_search_of_hyperparameters_is_refused(transformers, adapter, tmp_path):
    """Its models would share a memory, and its checkpoints lie elsewhere."""
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), max_grad_norm=0, use_cpu=True)
    state = transformers.TrainerState(is_hyper_param_search=True)
    with pytest.raises(
        ValueError, match="hyperparameter_search: it trains several models, but a clipper belongs to one"
    ):
        adapter.ClipCallback(AutoClip()).on_train_begin(arguments, state, transformers.TrainerControl())
