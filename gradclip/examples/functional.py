"""Gradients of `torch.func.grad`, which lie in no parameter's `.grad`."""

import torch
from torch import Tensor

from gradclip import AutoClip

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
clipper = AutoClip(p=10)


def loss(parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    outputs = torch.func.functional_call(model, parameters, (inputs,))
    return torch.nn.functional.mse_loss(outputs, inputs.mean(dim=1, keepdim=True))


for step in range(1, 101):
    gradients, value = torch.func.grad_and_value(loss)(parameters, torch.randn(32, 8))
    result = clipper.clip_grads_(gradients)
    if result.should_step:
        parameters = {name: parameter - 0.1 * gradients[name] for name, parameter in parameters.items()}
    if step % 25 == 0:
        print(f"step {step}: loss {value:.3g}, norm {result.grad_norm:.3g}, threshold {result.threshold:.3g}")
