"""What belongs to what: estimates to references, one permutation for a whole utterance; values to the largest."""

from functools import cache
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from separation.errors import InputError

MAX_ENUMERATED = 4
"""Sources up to which all permutations are tried (24); beyond, the assignment problem is solved."""


def best_assignment(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The permutation of least mean cost.

    Args:
        cost: shape (batch, estimate, reference).

    Returns:
        The least mean cost, shape (batch,), differentiable; and the estimate that each reference gets, shape (batch,
        reference).
    """
    count = cost.shape[-1]
    if cost.shape[1] != count:
        raise InputError(f"model.num_sources={cost.shape[1]}: the mixtures have {count} sources")
    if count > MAX_ENUMERATED:
        solved = [linear_sum_assignment(item.T)[1] for item in cost.detach().cpu().numpy()]
        order = torch.from_numpy(np.stack(solved)).to(cost.device)
        return cost.gather(1, order.unsqueeze(1)).squeeze(1).mean(-1), order
    orders = _orders(count, cost.device)
    costs = cost[:, orders, torch.arange(count, device=cost.device)].mean(-1)
    least, which = costs.min(-1)
    return least, orders[which]


@cache
@torch.inference_mode(False)  # they outlive the mode they are made in
def _orders(count: int, device: torch.device) -> Tensor:
    """All permutations, kept on the device: sending them in every step would wait for it."""
    return torch.tensor(list(permutations(range(count))), device=device)


def reorder(estimates: Tensor, order: Tensor) -> Tensor:
    """Brings estimates, shape (batch, source, ...), into the references' order, shape (batch, source)."""
    return estimates[torch.arange(len(order), device=order.device).unsqueeze(1), order]


def argmax_of_few(values: Tensor, dim: int) -> Tensor:
    """As `argmax` along an axis of two or a few more entries, where torch's takes some twenty times as long."""
    first, second, *others = values.unbind(dim)
    index, peak = (second > first).long(), first.maximum(second)
    for number, value in enumerate(others, start=2):
        index = torch.where(value > peak, number, index)
        peak = peak.maximum(value)
    return index
