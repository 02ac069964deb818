"""Hugging Face's Trainer: attached, it clips, and its values reach the logs and TensorBoard."""

import tempfile

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from gradclip import AutoClip
from gradclip.adapters import huggingface


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"loss": nn.functional.mse_loss(self.layers(inputs), inputs.mean(dim=1, keepdim=True))}


torch.manual_seed(0)
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    max_steps=40,
    logging_steps=10,
    learning_rate=0.01,
    max_grad_norm=0,  # the trainer's own clipping is off
    use_cpu=True,
    disable_tqdm=True,
    report_to=[],
)
trainer = Trainer(Regression(), arguments, train_dataset=[{"inputs": row} for row in torch.randn(320, 8)])
callback = huggingface.attach(AutoClip(p=10), trainer)
trainer.train()
print(f"{callback.clipper}: clipped in {callback.clipper.clipped_fraction:.0%} of the steps")
