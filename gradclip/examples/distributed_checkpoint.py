"""torch.distributed.checkpoint, as one uses it with FSDP2: the clipper beside the model and the optimizer."""

import tempfile
import warnings

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from gradclip import AutoClip

FOLDER = tempfile.mkdtemp()
warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # there is one process here


def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer, AutoClip]:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    return model, torch.optim.Adam(model.parameters()), AutoClip(p=10)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, clipper: AutoClip, steps: int) -> None:
    for step in range(steps):
        inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        if clipper.clip_(model.parameters()).should_step:
            optimizer.step()


model, optimizer, clipper = parts()
train(model, optimizer, clipper, 50)
weights, state = get_state_dict(model, optimizer)
dcp.save({"model": weights, "optimizer": state, "clipper": clipper}, checkpoint_id=FOLDER)

model, optimizer, clipper = parts()
weights, state = get_state_dict(model, optimizer)
dcp.load({"model": weights, "optimizer": state, "clipper": clipper}, checkpoint_id=FOLDER)
set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
print(f"{len(clipper.history)} norms restored")
