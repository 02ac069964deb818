"""Clips in Hugging Face's `Trainer`.

As in:

    Trainer(args=TrainingArguments(..., max_grad_norm=0), callbacks=[ClipCallback(AutoClip(p=10))], ...)
"""

import os
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from gradclip.attachment import Attachment
from gradclip.clipper import Clipper
from gradclip.result import ClipResult

FILE = "clipper.pt"


class ClipCallback(TrainerCallback):  # type: ignore[misc]
    """Clips in the optimizer's step, after accumulation and unscaling; its state lies in each checkpoint's folder.

    Args:
        clipper: the strategy.
        missing_ok: resume from a checkpoint that was saved without a clipper, with an empty memory.

    Attributes:
        clipper: the strategy.

    Raises:
        ValueError: at the start of the training, where the trainer clips too (`max_grad_norm` isn't 0), or a resumed
            checkpoint holds no clipper's state.
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
        if self._attachment is not None:  # of a training that was interrupted
            self._attachment.remove()
        if state.global_step > 0:
            self._resume(_folder(args, state) / FILE)
        self._attachment = self.clipper.attach(kwargs["optimizer"], kwargs["model"].named_parameters())

    def _resume(self, path: Path) -> None:
        if path.exists():
            self.clipper.load_state_dict(torch.load(path, weights_only=True))
        elif not self.missing_ok:
            raise ValueError(
                f"{path}: the training resumes, but its clipper's state isn't there; resume from a checkpoint in"
                " output_dir that was saved with ClipCallback, or pass missing_ok=True"
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
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
