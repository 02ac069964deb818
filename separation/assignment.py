"""Which estimate belongs to which reference, one permutation for a whole utterance."""

from itertools import permutations

import torch
from torch import Tensor


def best_assignment(cost: Tensor) -> tuple[Tensor, Tensor]:
    """The permutation of least mean cost.

    Args:
        cost: shape (batch, estimate, reference).

    Returns:
        The least mean cost, shape (batch,), differentiable; and the estimate that each reference gets, shape (batch,
        reference).
    """
    count = cost.shape[-1]
    orders = torch.tensor(list(permutations(range(count))), device=cost.device)
    costs = cost[:, orders, torch.arange(count, device=cost.device)].mean(-1)
    least, which = costs.min(-1)
    return least, orders[which]


def reorder(estimates: Tensor, order: Tensor) -> Tensor:
    """Brings estimates, shape (batch, source, ...), into the references' order, shape (batch, source)."""
    return estimates[torch.arange(len(order), device=order.device).unsqueeze(1), order]
