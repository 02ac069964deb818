"""Clips in Hugging Face's `Trainer`, whose own clipping has to be off.

As in:

    Trainer(args=TrainingArguments(..., max_grad_norm=0), callbacks=[ClipCallback(AutoClip(p=10))], ...)
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from gradclip.adapters.shared import metrics, missing_state
from gradclip.attachment import Attachment
from gradclip.clipper import Clipper
from gradclip.result import ClipResult

if TYPE_CHECKING:
    from transformers import Trainer  # imports audio and vision libraries too

FILE = "clipper.pt"


def attach(clipper: Clipper, trainer: "Trainer", missing_ok: bool = False) -> "ClipCallback":
    """Adds a `ClipCallback` to a trainer, before all its other callbacks, so that all of them see what it logs.

    Args:
        clipper: the strategy.
        trainer: before `train()`.
        missing_ok: see `ClipCallback`.
    """
    callback = ClipCallback(clipper, missing_ok)
    trainer.callback_handler.callbacks.insert(0, callback)
    return callback


class ClipCallback(TrainerCallback):  # type: ignore[misc]
    """Clips in the optimizer's step, after accumulation and unscaling; its state lies in each checkpoint's folder.

    Puts grad_norm, clip_threshold, clip_coefficient and clipped_fraction into the trainer's logs, which TensorBoard
    shows as train/grad_norm and so on. They reach `state.log_history` and the callbacks behind this one. TensorBoard's
    and other reporters lie before those that are passed to the trainer, and see them where `attach` adds this one.

    Args:
        clipper: the strategy.
        missing_ok: resume from a checkpoint that was saved without a clipper, with an empty memory.

    Attributes:
        clipper: the strategy.

    Raises:
        ValueError: at the start of the training, where the trainer clips too (`max_grad_norm` isn't 0) or searches
            hyperparameters, or a resumed checkpoint holds no clipper's state or isn't in `output_dir`.
    """

    def __init__(self, clipper: Clipper, missing_ok: bool = False) -> None:
        self.clipper = clipper
        self.missing_ok = missing_ok
        self._attachment: Attachment | None = None

    @property
    def result(self) -> ClipResult | None:
        """The last step's result; None before the first one."""
        return None if self._attachment is None else self._attachment.result

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.max_grad_norm:
            raise ValueError(f"max_grad_norm: expected 0 beside ClipCallback, got {args.max_grad_norm!r}")
        if state.is_hyper_param_search:
            raise ValueError(
                "hyperparameter_search: it trains several models, but a clipper belongs to one; use train()"
            )
        if self._attachment is not None:  # of a training that was interrupted
            self._attachment.remove()
        if state.global_step > 0:
            self._resume(_folder(args, state), state)
        self._attachment = self.clipper.attach(kwargs["optimizer"], kwargs["model"].named_parameters())

    def _resume(self, folder: Path, state: TrainerState) -> None:
        """Looks into the output folder, since the trainer doesn't say which checkpoint it resumes from."""
        if (folder / FILE).exists():
            saved = TrainerState.load_from_json(str(folder / "trainer_state.json"))
            if saved.log_history != state.log_history:
                raise ValueError(
                    f"{folder}: the training resumes from another run's checkpoint; load the clipper's state from there"
                    " with load_state_dict, and pass missing_ok=True and another output_dir"
                )
            self.clipper.load_state_dict(torch.load(folder / FILE, weights_only=True))
        elif not self.missing_ok:
            raise missing_state(folder / FILE)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.result is not None and logs is not None and "loss" in logs:  # evaluations are logged too
            measured = {name: float(value) for name, value in metrics(self.clipper, self.result, prefix="").items()}
            logs.update(measured)
            state.log_history[-1].update(measured)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.should_save:
            path = _folder(args, state) / FILE
            torch.save(self.clipper.state_dict(), path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._attachment is not None:
            self._attachment.remove()


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the trainer keeps this step's checkpoint."""
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
