"""Lightning with manual optimization: a clipper for each of two networks."""

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradclip import AutoClip
from gradclip.adapters.lightning import ClipCallback


class Gan(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.discriminator = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(network.parameters(), 0.001) for network in (self.generator, self.discriminator)]

    def training_step(self, real: Tensor) -> None:
        generator, discriminator = self.optimizers()
        made = self.generator(torch.randn(len(real), 4))
        softplus = nn.functional.softplus
        discriminator.zero_grad()
        self.manual_backward(
            softplus(self.discriminator(made.detach())).mean() + softplus(-self.discriminator(real)).mean()
        )
        discriminator.step()  # clips the discriminator's gradients
        generator.zero_grad()
        self.manual_backward(softplus(-self.discriminator(made)).mean())
        generator.step()  # clips the generator's, by another history


torch.manual_seed(0)
clippers = {"generator": AutoClip(p=10), "discriminator": AutoClip(p=50)}  # by what an optimizer trains
trainer = lightning.Trainer(
    max_epochs=1,
    callbacks=[ClipCallback(clippers)],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Gan(), DataLoader(torch.randn(1600, 8) + 3, batch_size=16))
for name, value in trainer.callback_metrics.items():
    print(f"{name}: {value:.3g}")
