"""Modules and a trainer in little for the tests of the Lightning adapter; imports Lightning."""

import math
from pathlib import Path

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradclip import Clipper
from gradclip.adapters.lightning import ClipCallback
from test_adapters import Rows

STEPS = 6


class Networks(lightning.LightningModule):
    """A generator and a discriminator that a manual loop steps in turn, without toggling: each one's backward pass
    leaves gradients in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(3, 3), nn.Linear(3, 1)
        self.norms: dict[str, list[float]] = {"generator": [], "discriminator": []}
        self.updates: dict[str, list[float]] = {"generator": [], "discriminator": []}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(network.parameters(), lr=1.0) for network in (self.generator, self.discriminator)]

    def training_step(self, batch: dict[str, Tensor], index: int) -> None:
        optimizers = dict(zip(self.norms, self.optimizers(), strict=True))
        for name, optimizer in optimizers.items():
            network = getattr(self, name)
            loss = self.discriminator(self.generator(batch["x"])).square().mean() * (1 + index % 3)
            optimizer.zero_grad()
            self.manual_backward(loss)
            before = nn.utils.parameters_to_vector(network.parameters()).detach()
            self.norms[name].append(math.hypot(*(grad.grad.norm().item() for grad in network.parameters())))
            optimizer.step()
            after = nn.utils.parameters_to_vector(network.parameters()).detach()
            self.updates[name].append((after - before).norm().item())


class Automatic(lightning.LightningModule):
    """One optimizer for one of two networks; the other one has gradients too. Leaves out batches at will."""

    def __init__(self, scale: float = 1.0, left_out: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trained, self.other = nn.Linear(3, 3), nn.Linear(3, 1)
        self.scale, self.left_out = scale, left_out

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor | None:
        if index == self.left_out:
            return None
        return self.other(self.trained(batch["x"])).square().mean() * self.scale

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.trained.parameters(), lr=0.0)


def fit(
    module: lightning.LightningModule,
    clipper: Clipper | dict | None,
    missing_ok: bool = False,
    ckpt_path: Path | None = None,
    **settings: object,
) -> lightning.Trainer:
    """Trains for some steps on the CPU, with this clipper or without any."""
    trainer = lightning.Trainer(
        callbacks=[] if clipper is None else [ClipCallback(clipper, missing_ok)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=STEPS,
        **{"max_epochs": 1, **settings},
    )
    trainer.fit(module, DataLoader(Rows(), batch_size=4), ckpt_path=ckpt_path)
    return trainer


def mixed_precision(scale: float) -> dict[str, object]:
    """The trainer's settings for 16-mixed with a scaler on the CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return {"plugins": [lightning.plugins.MixedPrecision("16-mixed", "cpu", scaler)]}
