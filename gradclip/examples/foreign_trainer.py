"""A trainer that calls `torch.nn.utils.clip_grad_norm_`, and that one can't or doesn't want to change."""

from unittest import mock

import torch

from gradclip import AutoClip


def train(steps: int, max_norm: float) -> float:
    """Stands for somebody else's trainer; returns the last norm."""
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        inputs = torch.randn(32, 8)
        targets = inputs.mean(dim=1, keepdim=True) + 0.1 * torch.randn(32, 1)
        torch.nn.functional.mse_loss(model(inputs), targets).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
    return norm.item()


clipper = AutoClip(p=10)
with mock.patch("torch.nn.utils.clip_grad_norm_", clipper.clip_grad_norm_):
    print(f"last norm {train(100, max_norm=1.0):.3g}")
print(f"{len(clipper.history)} norms recorded, clipped in {clipper.clipped_fraction:.0%} of the steps")
