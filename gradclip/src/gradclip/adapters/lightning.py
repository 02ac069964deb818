"""Clips in Lightning's training loop (`lightning` 2.x), automatic or manual.

As in:

    trainer = lightning.Trainer(callbacks=[ClipCallback(AutoClip(p=10))])
    trainer = lightning.Trainer(callbacks=[ClipCallback({"generator": AutoClip(), "discriminator": AutoClip()})])
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy

from gradclip.adapters.shared import metrics, missing_state
from gradclip.clipper import Clipper
from gradclip.result import ClipResult

Clippers = Clipper | Mapping[str, Clipper] | Mapping[int, Clipper]
"""One, or one for each optimizer by a submodule's name or the optimizer's index."""


class ClipCallback(Callback):  # type: ignore[misc]
    """Clips once per optimizer step, after accumulation and unscaling; its state is saved in Lightning's checkpoints.

    Logs train/grad_norm, train/clip_threshold, train/clip_coefficient and train/clipped_fraction; with several clippers
    train/generator/grad_norm and so on. A step that is to be left out finds no gradients. Where gradients overflow
    under 16-bit precision, the scaler leaves out the step, and it is neither recorded nor counted.

    Args:
        clipper: the strategy; or, where the module has several optimizers, a strategy for each, under the name of a
            submodule that the optimizer trains or under the optimizer's index in `configure_optimizers`. An optimizer
            without one isn't clipped.
        missing_ok: resume from a checkpoint that was saved without a clipper, with an empty memory.

    Attributes:
        clipper: as passed.
        result: the last step's, of whichever optimizer; None before the first one.

    Raises:
        ValueError: at the start of the training, where the trainer clips too or runs DeepSpeed, a clipper's optimizer
            can't be told, a fused optimizer unscales by itself under 16-bit precision, or a resumed checkpoint holds no
            clipper's state.
    """

    def __init__(self, clipper: Clippers, missing_ok: bool = False) -> None:
        self.clipper = clipper
        self.missing_ok = missing_ok
        self.result: ClipResult | None = None
        self._assigned: dict[torch.optim.Optimizer, tuple[Clipper, str]] = {}  # with the prefix of what is logged
        self._names: dict[int, str] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.gradient_clip_val:
            raise ValueError(f"gradient_clip_val: expected None beside ClipCallback, got {trainer.gradient_clip_val!r}")
        if isinstance(trainer.strategy, DeepSpeedStrategy):
            raise ValueError(
                "strategy: DeepSpeed keeps the gradients to itself; use its own gradient_clipping, or FSDP2"
            )
        self._assigned = self._assign(trainer.optimizers, pl_module)
        self._names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        fused = any(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in self._assigned)
        if fused and _scaler(trainer) is not None:
            raise ValueError("fused: this optimizer unscales in its own step, after the clipping; use fused=False")

    def _assign(
        self, optimizers: list[torch.optim.Optimizer], module: LightningModule
    ) -> dict[torch.optim.Optimizer, tuple[Clipper, str]]:
        """Each optimizer's clipper."""
        if isinstance(self.clipper, Clipper):
            if len(optimizers) != 1:
                raise ValueError(
                    f"clipper: one clipper has one memory, but configure_optimizers returned {len(optimizers)}"
                    " optimizers; pass one for each, as in ClipCallback({'generator': AutoClip(), ...}), or call"
                    " clipper.clip_(self.named_parameters()) before their steps"
                )
            return {optimizers[0]: (self.clipper, "train/")}
        assigned: dict[torch.optim.Optimizer, tuple[Clipper, str]] = {}
        for key, clipper in self.clipper.items():
            optimizer = _optimizer(key, optimizers, module)
            if optimizer in assigned:
                raise ValueError(f"clipper: {key!r} names an optimizer that has a clipper already; pass one for each")
            assigned[optimizer] = clipper, f"train/{key}/"
        return assigned

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if optimizer not in self._assigned:
            return
        clipper, prefix = self._assigned[optimizer]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        scaler = _scaler(trainer)
        overflow = scaler is not None and any(scaler._found_inf_per_device(optimizer).values())
        if overflow or all(parameter.grad is None for parameter in parameters):  # `training_step` may return None
            return
        names = [self._names.get(id(each), f"parameter {position}") for position, each in enumerate(parameters)]
        self.result = clipper.clip_(zip(names, parameters, strict=True))
        if not self.result.should_step:
            optimizer.zero_grad(set_to_none=True)
        pl_module.log_dict(metrics(clipper, self.result, prefix))

    def state_dict(self) -> dict[str, Any]:
        if isinstance(self.clipper, Clipper):
            return self.clipper.state_dict()
        return {str(key): clipper.state_dict() for key, clipper in self.clipper.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if isinstance(self.clipper, Clipper):
            self.clipper.load_state_dict(state_dict)
            return
        if set(state_dict) != set(map(str, self.clipper)):
            raise ValueError(f"clipper: the state has {sorted(state_dict)}, this callback {sorted(self.state_dict())}")
        for key, clipper in self.clipper.items():
            clipper.load_state_dict(state_dict[str(key)])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit" and self.state_key not in checkpoint["callbacks"] and not self.missing_ok:
            raise missing_state("checkpoint")


def _optimizer(
    key: str | int, optimizers: list[torch.optim.Optimizer], module: LightningModule
) -> torch.optim.Optimizer:
    """The optimizer that has this index, or that trains this submodule."""
    if isinstance(key, int):
        matches = optimizers[key : key + 1]
    else:
        submodule = dict(module.named_modules()).get(key, torch.nn.Module())
        trained = set(map(id, submodule.parameters()))
        matches = [
            optimizer
            for optimizer in optimizers
            if any(id(parameter) in trained for group in optimizer.param_groups for parameter in group["params"])
        ]
    if len(matches) != 1:
        raise ValueError(
            f"clipper: {key!r} stands for {len(matches)} of the {len(optimizers)} optimizers; name a submodule that one"
            f" of them trains, or give its index, 0 to {len(optimizers) - 1}"
        )
    return matches[0]


def _scaler(trainer: Trainer) -> Any:
    """The trainer's `GradScaler`; None unless the precision is 16-mixed."""
    return getattr(trainer.precision_plugin, "scaler", None)
