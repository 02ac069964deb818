"""A training that is interrupted and resumed goes on bit for bit as if it had never stopped."""

import tempfile
from pathlib import Path

import torch

from gradclip import AutoClip

CHECKPOINT = Path(tempfile.mkdtemp()) / "checkpoint.pt"


def train(first: int, last: int, resume: bool) -> torch.Tensor:
    """Runs these steps and saves a checkpoint; returns the weights."""
    torch.manual_seed(0)
    model, clipper = torch.nn.Linear(8, 1), AutoClip(p=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    if resume:
        checkpoint = torch.load(CHECKPOINT, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        clipper.load_state_dict(checkpoint["clipper"])
    for step in range(first, last):
        inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), inputs.mean(dim=1, keepdim=True)).backward()
        if clipper.clip_(model.parameters()).should_step:
            optimizer.step()
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "clipper": clipper.state_dict()}, CHECKPOINT
    )
    print(f"{clipper} after step {last}")
    return model.weight.detach()


whole = train(0, 100, resume=False)
train(0, 50, resume=False)
resumed = train(50, 100, resume=True)
print(f"the same weights to the last bit: {torch.equal(whole, resumed)}")
