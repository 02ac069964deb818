"""Muon for a network's matrices and AdamW for its other parameters, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from separation.errors import InputError


class Muon(torch.optim.Optimizer):
    """Parameters with two axes (the weights of LSTMs and linear layers) take Muon's steps (Jordan et al., 2024), whose
    size is matched to AdamW's (Liu et al., 2025), so that one learning rate serves both; biases, gains and filters with
    more axes take AdamW's.

    Muon's step is an orthogonal matrix whatever the gradient's norm, so clipping a gradient changes only how much it
    counts beside the earlier ones in the momentum.

    Args:
        params: the network's.
        lr: learning rate of both.
        weight_decay: of both, decoupled: a step takes lr * weight_decay of each parameter off.
        momentum: Muon's.

    Raises:
        InputError: torch is older than 2.9 and has no Muon.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise InputError(f"optimizer=muon: torch {torch.__version__} has none; install torch 2.9 or later")
        entries = list(params)
        matrices = [entry for entry in entries if entry.ndim == 2]
        others = [entry for entry in entries if entry.ndim != 2]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon([{"params": matrices}], lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([{"params": others}], lr, weight_decay=weight_decay),
        ]
        groups = [group for part in self._parts for group in part.param_groups]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._share()

    def _share(self) -> None:
        """The parts step with this optimizer's settings and state."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every optimizer's."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step of both; takes no closure."""
        for part in self._parts:
            part.step()
        return None
