"""Each sample's gradient is clipped by itself, before their mean is taken: no sample moves the model by more.

Private training adds noise in proportion to the bound, and an accountant such as Opacus's.
"""

import torch
from torch import Tensor

from gradclip import FixedClip

torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
clipper = FixedClip(max_norm=0.5)


def loss(parameters: dict[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.mse_loss(torch.func.functional_call(model, parameters, (inputs,)), target)


sample_gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

for step in range(1, 101):
    inputs = torch.randn(32, 8)
    targets = inputs.mean(dim=1, keepdim=True)
    targets[0] *= 1000  # an outlier
    gradients = sample_gradients(parameters, inputs, targets)
    result = clipper.clip_per_sample_(gradients)
    parameters = {name: parameter - 0.1 * gradients[name].mean(dim=0) for name, parameter in parameters.items()}
    if step % 25 == 0:
        clipped = (result.factors < 1).sum()
        print(f"step {step}: norms up to {result.norms.max():.3g}, {clipped} of {len(result.norms)} samples clipped")

print(f"weights {parameters['weight'].min():.3f} to {parameters['weight'].max():.3f}; without the outliers all 0.125")
