"""Clips in Lightning's training loop (`lightning` 2.x).

As in:

    trainer = lightning.Trainer(callbacks=[ClipCallback(AutoClip(p=10))])
"""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gradclip.clipper import Clipper
from gradclip.result import ClipResult


class ClipCallback(Callback):  # type: ignore[misc]
    """Clips once per optimizer step, after accumulation and unscaling; its state is saved in Lightning's checkpoints.

    Logs train/grad_norm, train/clip_threshold and train/clip_coefficient. A step that is to be left out finds no
    gradients.

    Args:
        clipper: the strategy.

    Attributes:
        clipper: the strategy.
        result: the last step's; None before the first one.

    Raises:
        ValueError: at the start of the training, where the trainer clips too, the module has several optimizers, or a
            fused optimizer unscales by itself under 16-bit precision.
    """

    def __init__(self, clipper: Clipper) -> None:
        self.clipper = clipper
        self.result: ClipResult | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.gradient_clip_val:
            raise ValueError(f"gradient_clip_val: expected None beside ClipCallback, got {trainer.gradient_clip_val!r}")
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"optimizers: ClipCallback has one memory and needs one optimizer, got {len(trainer.optimizers)}; with"
                " several, call a clipper of its own before each of their steps"
            )
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(trainer.optimizers[0], "_step_supports_amp_scaling", False):
            raise ValueError("fused: this optimizer unscales in its own step, after the clipping; use fused=False")

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        result = self.result = self.clipper.clip_(pl_module.named_parameters())
        if not result.should_step:
            optimizer.zero_grad(set_to_none=True)
        pl_module.log_dict(
            {
                "train/grad_norm": result.raw.grad_norm,
                "train/clip_threshold": result.raw.threshold,
                "train/clip_coefficient": result.raw.coefficient,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        return self.clipper.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clipper.load_state_dict(state_dict)
