"""BLSTMs of several runs as one, beside PyTorch's."""

import pytest
import torch
from torch import nn

from separation.training.together.stacked_blstm import Recurrence, stacked_blstm


@pytest.mark.parametrize("num_layers", [1, 3])
def test_outputs_and_gradients_are_those_of_each_layer_alone(num_layers):
    torch.manual_seed(0)
    layers = [nn.LSTM(7, 5, num_layers, batch_first=True, bidirectional=True).double() for _ in range(3)]
    inputs = torch.randn(3, 4, 11, 7, dtype=torch.float64, requires_grad=True)
    leaves = [inputs, *(parameter for layer in layers for parameter in layer.parameters())]
    alone = torch.stack([layer(x)[0] for layer, x in zip(layers, inputs, strict=True)])
    together = stacked_blstm(layers, inputs)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)
    weights = torch.randn_like(alone)
    expected = torch.autograd.grad((weights * alone).sum(), leaves)
    for gradient, other in zip(torch.autograd.grad((weights * together).sum(), leaves), expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-13)


def test_gradients_are_the_recurrences_own():
    torch.manual_seed(1)
    gates = torch.randn(4, 2, 3, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Recurrence.apply, (gates, weight))


def test_nan_stays_in_its_own_chain():
    torch.manual_seed(2)
    layers = [nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True) for _ in range(3)]
    inputs = torch.randn(3, 2, 6, 3)
    whole = stacked_blstm(layers, inputs)
    inputs[1, 0, 2] = torch.nan
    damaged = stacked_blstm(layers, inputs)
    assert torch.equal(damaged[0], whole[0]) and torch.equal(damaged[2], whole[2])
    assert damaged[1].isnan().any()


def test_no_two_gradients_share_memory():
    """Clipping scales them in place."""
    layers = [nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True) for _ in range(2)]
    stacked_blstm(layers, torch.randn(2, 2, 6, 3)).sum().backward()
    gradients = [parameter.grad for layer in layers for parameter in layer.parameters()]
    before = [gradient.clone() for gradient in gradients]
    for gradient in gradients:
        gradient.mul_(2)
    assert all(torch.equal(gradient, 2 * old) for gradient, old in zip(gradients, before, strict=True))
