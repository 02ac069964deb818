"""A plain loop: AutoClip keeps batches of outliers from throwing the model off."""

import torch

from gradclip import AutoClip

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
clipper = AutoClip(p=10)

for step in range(1, 201):
    inputs = torch.randn(32, 8)
    targets = inputs.mean(dim=1, keepdim=True)
    if step % 50 == 0:
        targets = 1000 * targets  # outliers
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(inputs), targets).backward()
    result = clipper.clip_(model.parameters())
    if result.should_step:
        optimizer.step()
    if step % 25 == 0:
        print(f"step {step}: norm {result.grad_norm:.3g}, threshold {result.threshold:.3g}")

inputs = torch.randn(1000, 8)
error = torch.nn.functional.mse_loss(model(inputs), inputs.mean(dim=1, keepdim=True))
print(f"clipped in {clipper.clipped_fraction:.0%} of the steps; error {error:.4f}")
