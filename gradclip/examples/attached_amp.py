"""Attached to a fused optimizer, with gradient accumulation and mixed precision: nothing in the loop changes."""

import torch

from gradclip import AutoClip

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
scaler = torch.amp.GradScaler(device)
clipper = AutoClip(p=10, groups="module")
attachment = clipper.attach(optimizer, model.named_parameters())

for step in range(1, 101):
    optimizer.zero_grad()
    for _ in range(4):
        inputs = torch.randn(8, 8, device=device)
        with torch.autocast(device, dtype=torch.float16):
            loss = torch.nn.functional.mse_loss(model(inputs), inputs.mean(dim=1, keepdim=True)) / 4
        scaler.scale(loss).backward()
    scaler.step(optimizer)  # clips the unscaled sum of all four
    scaler.update()
    if step % 25 == 0 and attachment.result is not None:
        print(f"step {step}: {attachment.result.as_dict()}")

print(f"clipped in {clipper.clipped_fraction:.0%} of {clipper.finite_steps} steps")
