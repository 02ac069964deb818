"""Which estimate belongs to which reference, one permutation for a whole utterance."""

from itertools import permutations

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
        order = torch.tensor([linear_sum_assignment(item.T)[1] for item in cost.detach().cpu().numpy()])
        order = order.to(cost.device)
        return cost.gather(1, order.unsqueeze(1)).squeeze(1).mean(-1), order
    orders = torch.tensor(list(permutations(range(count))), device=cost.device)
    costs = cost[:, orders, torch.arange(count, device=cost.device)].mean(-1)
    least, which = costs.min(-1)
    return least, orders[which]


def reorder(estimates: Tensor, order: Tensor) -> Tensor:
    """Brings estimates, shape (batch, source, ...), into the references' order, shape (batch, source)."""
    return estimates[torch.arange(len(order), device=order.device).unsqueeze(1), order]
