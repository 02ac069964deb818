"""Ignite: clips in the engine, whose metrics hold what was measured."""

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from gradclip import AutoClip
from gradclip.adapters import ignite

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)


def update(engine: Engine, inputs: Tensor) -> float:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), inputs.mean(dim=1, keepdim=True))
    loss.backward()
    optimizer.step()
    return loss.item()


trainer = Engine(update)
ignite.attach(AutoClip(p=10), trainer, optimizer, model)


@trainer.on(Events.ITERATION_COMPLETED(every=25))
def log(engine: Engine) -> None:
    print(engine.state.iteration, engine.state.metrics)


trainer.run(torch.randn(100, 16, 8))
