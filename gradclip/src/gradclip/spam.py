"""The spike clip of SPAM (Huang et al., 2025)."""

import math
from typing import Any

import torch
from torch import Tensor

from gradclip.checks import check_choice, check_decay, check_positive
from gradclip.clipper import TensorClipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State, pairs
from gradclip.tensors import remembered, zeros_like


class SpikeClip(TensorClipper):
    """Bounds the square of each entry by a multiple of the running mean of that entry's squares.

    Where g_i^2 > theta * V_i and V_i > 0: g_i <- sign(g_i) * sqrt(theta * V_i). V is the second moment before this
    step: its own, V <- beta2 * V + (1 - beta2) * g^2 with the clipped g, or the one that Adam keeps anyway.

    Args:
        theta: the multiple, > 0.
        beta2: decay of its own mean, in [0, 1).
        second_moment: "own", or "optimizer": the `exp_avg_sq` of the optimizer that the clipper is attached to.
        on_nonfinite: see `Clipper`.

    Reference: T. Huang et al., "SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training", ICLR 2025,
    equation 1.
    State: V, as large as the parameters; none with the optimizer's. Cost: some four passes; needs names.

    Raises:
        TypeError, ValueError: an argument is not as described; in use, "optimizer" without an attached optimizer that
            keeps `exp_avg_sq`, or a restored V of another shape than its parameter.
    """

    def __init__(
        self, theta: float = 5000.0, beta2: float = 0.999, second_moment: str = "own", on_nonfinite: str = "skip"
    ) -> None:
        super().__init__(on_nonfinite)
        self.theta = check_positive("theta", theta)
        self.beta2 = check_decay("beta2", beta2)
        self.second_moment = check_choice("second_moment", second_moment, ("own", "optimizer"))
        self._moments: dict[str, Tensor] = {}
        self._optimizers: tuple[torch.optim.Optimizer, ...] = ()
        self._seen: dict[str, int] = {}  # versions of the parameters that the optimizer had no moment of

    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None:
        self._optimizers, self._seen = optimizers, {}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_optimizers": (), "_seen": {}}

    def _clip_tensors(self, grads: Gradients) -> ClipResult:
        grads.require_plain("SpikeClip")
        norm = grads.norm
        moments = [self._moment(name, p) for name, p in zip(grads.names, grads.parameters, strict=True)]
        for name, tensor, moment in zip(grads.names, grads.entries(), moments, strict=True):
            if moment is not None:
                limit = torch.where(moment > 0, (self.theta * moment).sqrt(), math.inf)
                tensor.copy_(torch.clamp(tensor.to(moment.dtype), -limit, limit))
            if self.second_moment == "own":
                if moment is None:
                    moment = self._moments[name] = zeros_like(tensor)
                grad = tensor.to(moment.dtype)
                moment.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        return ClipResult(norm, coefficient=grads.coefficient())

    def _moment(self, name: str, parameter: Tensor) -> Tensor | None:
        """V of a parameter; None before its first step."""
        if self.second_moment == "own":
            return remembered(self._moments, name, parameter)
        if not self._optimizers:
            raise ValueError("second_moment: 'optimizer' needs an optimizer; call clipper.attach(optimizer)")
        optimizer = next((each for each in self._optimizers if parameter in each.state), self._optimizers[0])
        moment = optimizer.state.get(parameter, {}).get("exp_avg_sq")
        if moment is None:
            if self._seen.get(name, parameter._version) != parameter._version:  # it has taken a step
                kind = type(optimizer).__name__
                raise ValueError(
                    f"second_moment: {kind} keeps no exp_avg_sq; use 'own', or an optimizer of Adam's kind"
                )
            self._seen[name] = parameter._version
        else:
            self._seen.pop(name, None)
        return moment

    def _state(self) -> dict[str, Any]:
        return {"second_moment": self.second_moment, "moments": pairs(self._moments)}

    def _restore(self, state: State) -> None:
        state.expect("second_moment", self.second_moment)
        self._moments = state.tensors("moments")
        self._restored = set(self._moments)
