"""Lightning: a callback clips, logs and saves its state in the checkpoints."""

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradclip import AutoClip
from gradclip.adapters.lightning import ClipCallback


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def training_step(self, inputs: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.layers(inputs), inputs.mean(dim=1, keepdim=True))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


torch.manual_seed(0)
callback = ClipCallback(AutoClip(p=10))
trainer = lightning.Trainer(
    max_epochs=2,
    accumulate_grad_batches=2,
    callbacks=[callback],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Regression(), DataLoader(torch.randn(640, 8), batch_size=16))
for name, value in trainer.callback_metrics.items():
    print(f"{name}: {value:.3g}")
