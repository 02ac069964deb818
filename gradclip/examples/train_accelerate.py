"""Accelerate: clips once per accumulation; save_state and load_state take the clipper along."""

import tempfile

import torch
from accelerate import Accelerator
from torch import nn

from gradclip import AutoClip
from gradclip.adapters import accelerate
from gradclip.adapters.shared import metrics

torch.manual_seed(0)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
model, optimizer = accelerator.prepare(model, optimizer)
clipper = AutoClip(p=10)
attachment = accelerate.attach(clipper, accelerator, optimizer, model)

for step in range(1, 101):
    inputs = torch.randn(16, 8, device=accelerator.device)
    with accelerator.accumulate(model):
        loss = nn.functional.mse_loss(model(inputs), inputs.mean(dim=1, keepdim=True))
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    if step % 20 == 0 and attachment.result is not None:
        values = metrics(clipper, attachment.result)
        accelerator.log(values, step=step)  # to TensorBoard and others, where there are any
        print(step, values)

folder = tempfile.mkdtemp()
accelerator.save_state(folder)
accelerator.load_state(folder)
print(f"{len(clipper.history)} norms restored")
