"""The BLSTMs of several runs as one: a leading axis of runs, one batched product a frame for all of them.

A GPU is left idle by the small products of one run's recurrence; those of many runs side by side keep it busy. Weights
stay where they are, in each run's own `nn.LSTM`: they are stacked anew each step, which costs a copy.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

DIRECTIONS = ("", "_reverse")
"""Endings of the names of an `nn.LSTM`'s parameters."""


def stacked_blstm(layers: Sequence[nn.LSTM], inputs: Tensor) -> Tensor:
    """What `layers[k](inputs[k])[0]` would be, for each k.

    Args:
        layers: of one size, bidirectional, batch first, without dropout.
        inputs: shape (run, batch, frame, feature), float32.

    Returns:
        Shape (run, batch, frame, 2 hidden_size); its gradients reach the parameters of each of `layers`.
    """
    num_runs, batch_size, num_frames, _ = inputs.shape
    rows = inputs.transpose(1, 2)  # a frame's mixtures side by side
    for number in range(layers[0].num_layers):
        weight_ih = _stacked(layers, f"weight_ih_l{number}").flatten(1, 2)  # (run, 2 x 4 hidden, feature)
        weight_hh = _stacked(layers, f"weight_hh_l{number}").flatten(0, 1)  # (run x 2, 4 hidden, hidden)
        # Times one: otherwise both gradients would lie in the same memory, and clipping, in place, scale it twice.
        bias = _stacked(layers, f"bias_ih_l{number}") + 1.0 * _stacked(layers, f"bias_hh_l{number}")
        flat = rows.reshape(num_runs, num_frames * batch_size, -1)
        projected = torch.baddbmm(bias.reshape(num_runs, 1, -1), flat, weight_ih.transpose(1, 2))
        ahead, back = projected.view(num_runs, num_frames, batch_size, 2, -1).unbind(3)
        gates = torch.stack([ahead, back.flip(1)], 1).flatten(0, 1)  # each direction in the order in which it reads
        hidden = Recurrence.apply(gates.transpose(0, 1).contiguous(), weight_hh)  # type: ignore[no-untyped-call]
        ahead, back = hidden.transpose(0, 1).unflatten(0, (num_runs, 2)).unbind(1)
        rows = torch.cat([ahead, back.flip(1)], -1)
    return rows.transpose(1, 2)


def _stacked(layers: Sequence[nn.LSTM], name: str) -> Tensor:
    """A parameter of all layers and both directions, shape (run, direction, ...)."""
    return torch.stack([torch.stack([getattr(layer, name + ending) for ending in DIRECTIONS]) for layer in layers])


class Recurrence(torch.autograd.Function):
    """An LSTM's recurrence from zeros, of several chains side by side.

    A function of its own, since autograd would record every frame: the loop goes back over what the cells keep, and
    the weights' gradient is one product at its end.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor) -> Tensor:
        """
        Args:
            gates: what the inputs add to the gates (input, forget, cell, output), shape (frame, chain, batch,
                4 hidden_size).
            weight: of the hidden state, shape (chain, 4 hidden_size, hidden_size).

        Returns:
            The hidden states, shape (frame, chain, batch, hidden_size).
        """
        _, num_chains, batch_size, _ = gates.shape
        states = [gates.new_zeros(num_chains, batch_size, weight.shape[2])]
        cells, kept = [states[0]], []
        backwards = weight.transpose(1, 2).contiguous()
        for frame in gates:
            state, cell, activations = _cell(frame, torch.bmm(states[-1], backwards), cells[-1])
            states.append(state)
            cells.append(cell)
            kept.append(activations)
        ctx.cells, ctx.kept = cells, kept
        hidden = torch.stack(states)
        ctx.save_for_backward(hidden, weight)
        return hidden[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both inputs (backpropagation through time)."""
        hidden, weight = ctx.saved_tensors
        grad_gates: list[Tensor] = []
        grad_state, grad_cell = torch.zeros_like(hidden[0]), torch.zeros_like(hidden[0])
        for frame in reversed(range(len(grad_hidden))):
            grad, grad_cell = _cell_backward(
                grad_hidden[frame] + grad_state, grad_cell, ctx.cells[frame], ctx.cells[frame + 1], ctx.kept[frame]
            )
            grad_state = torch.bmm(grad, weight)
            grad_gates.append(grad)
        gates = torch.stack(grad_gates[::-1])
        # All frames and mixtures at once: (chain, 4 hidden, frame x batch) times (chain, frame x batch, hidden).
        grad_weight = torch.bmm(gates.permute(1, 3, 0, 2).flatten(2), hidden[:-1].transpose(0, 1).flatten(1, 2))
        return gates, grad_weight


def _cell(of_input: Tensor, of_state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One frame of all chains: the new state, the new cell, and the gates' activations.

    Args:
        of_input, of_state: what both add to the gates, shape (chain, batch, 4 hidden_size).
        cell: before, shape (chain, batch, hidden_size).
    """
    if of_input.is_cuda:  # all of it in one kernel
        flat = torch.ops.aten._thnn_fused_lstm_cell(of_input.flatten(0, 1), of_state.flatten(0, 1), cell.flatten(0, 1))
        state, new_cell, activations = (value.unflatten(0, cell.shape[:2]) for value in flat)
        return state, new_cell, activations
    i, f, g, o = (of_input + of_state).chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    new_cell = f * cell + i * g
    return o * new_cell.tanh(), new_cell, torch.cat([i, f, g, o], -1)


def _cell_backward(
    grad_state: Tensor, grad_cell: Tensor, cell: Tensor, new_cell: Tensor, activations: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `_cell`'s gates before their activations, and of the cell before."""
    if grad_state.is_cuda:
        arguments = (value.flatten(0, 1).contiguous() for value in (grad_state, grad_cell, cell, new_cell, activations))
        of_gates, of_cell, _ = torch.ops.aten._thnn_fused_lstm_cell_backward_impl(*arguments, False)
        return of_gates.unflatten(0, cell.shape[:2]), of_cell.unflatten(0, cell.shape[:2])
    i, f, g, o = activations.chunk(4, -1)
    squashed = new_cell.tanh()
    total = grad_cell + grad_state * o * (1 - squashed**2)
    parts = [
        total * g * i * (1 - i),
        total * cell * f * (1 - f),
        total * i * (1 - g**2),
        grad_state * squashed * o * (1 - o),
    ]
    return torch.cat(parts, -1), total * f
