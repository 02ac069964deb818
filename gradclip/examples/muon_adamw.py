"""Two optimizers that step in turn: Muon for the matrices, AdamW for the rest, and one clipper."""

import torch

from gradclip import AutoClip

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
muon = torch.optim.Muon([parameter for parameter in model.parameters() if parameter.ndim == 2], lr=0.01)
adamw = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.ndim < 2], lr=0.01)

# One norm over all. With exclude=muon, of AdamW's parameters alone: Muon's steps don't depend on the gradient's scale.
clipper = AutoClip(p=10)
attachment = clipper.attach([muon, adamw])

for _ in range(100):
    inputs = torch.randn(32, 8)
    model.zero_grad()
    torch.nn.functional.mse_loss(model(inputs), inputs.mean(dim=1, keepdim=True)).backward()
    muon.step()  # clips the gradients of both
    adamw.step()

print(attachment.result)
print(f"clipped in {clipper.clipped_fraction:.0%} of {clipper.finite_steps} turns")
