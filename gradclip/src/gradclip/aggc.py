"""AGGC (Li, Wu, Chang, 2026)."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from gradclip.checks import check_count, check_decay, check_number
from gradclip.clipper import Clipper
from gradclip.gradients import Gradients
from gradclip.groups import Grouping, Groups, GroupsSetting
from gradclip.result import ClipResult
from gradclip.state import State


class AGGC(Clipper):
    """Keeps the norm of each group of parameters between two multiples of its running mean.

    With n the norm of a group's gradient: S <- beta * S + (1 - beta) * n, which begins with the group's first norm;
    U = high * S; L = min(max(min_norm, low * S), U). Where n > U, g <- g * U / n; where n < L, g <- g * L / n, which
    makes it larger. `high` and `low` run linearly to `high_late` and `low_late` over the steps of `transition`.
    Zero norms are neither recorded nor raised.

    The authors' code differs from their equation: S begins at 0, is the mean of the clipped norms, and bounds the step
    after; and a factor is kept within [0.9, 1.1]. The defaults are those of its fine-tuning scripts, which raise
    nothing (low = 0) and change from 40% to 70% of the training.

    Args:
        beta: decay of the running mean, in [0, 1).
        high: upper bound as a multiple of the running mean, > 0. Below 1 it clips in most steps.
        low: lower bound as a multiple of the running mean, in [0, high]; 0 raises nothing.
        high_late, low_late: the same after `transition`; without it they don't count.
        min_norm: lower bound of the lower bound, >= 0. Above 0 it makes the method depend on the loss's scale.
        transition: after how many steps the multiples begin to change and after how many they have, two whole numbers
            >= 0; None: they stay.
        groups: "tensor", "module", "param_group", or a mapping of names to patterns (see `AutoClip`). The paper's are
            functional types, such as {"queries": ["*.q_proj.*"], "rest": ["*"]}.
        on_nonfinite: see `Clipper`.

    Reference: Z. Li, Y. Wu, Y. Chang, "AGGC: Adaptive Group Gradient Clipping for Stabilizing Large Language Model
    Training", Findings of ACL 2026.
    State: S of each group, by name, and the number of steps. Cost: as fixed clipping; needs names.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    per_tensor = True

    def __init__(
        self,
        beta: float = 0.95,
        high: float = 0.6,
        low: float = 0.0,
        high_late: float = 0.7,
        low_late: float = 0.0,
        min_norm: float = 0.0,
        transition: Sequence[int] | None = None,
        groups: Groups = "module",
        on_nonfinite: str = "skip",
    ) -> None:
        super().__init__(on_nonfinite)
        self.beta = check_decay("beta", beta)
        self.high, self.low = _check_multiples("high", high, "low", low)
        self.high_late, self.low_late = _check_multiples("high_late", high_late, "low_late", low_late)
        self.min_norm = check_number(
            "min_norm", min_norm, "a finite number >= 0", lambda number: 0 <= number < math.inf
        )
        self.transition = None if transition is None else _check_transition(transition)
        self._grouping = Grouping(groups)
        self._steps = 0
        self._means: dict[str, float] = {}

    @property
    def groups(self) -> GroupsSetting:
        """As the argument."""
        return self._grouping.setting

    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None:
        self._grouping.optimizers = optimizers

    def _clip(self, grads: Gradients) -> ClipResult:
        norm, groups = grads.norm, self._grouping.members(grads, "AGGC")
        self._check_restored(groups)
        if norm == 0:
            return ClipResult(norm)
        high, low = self._multiples()
        self._steps += 1
        bounds, factors = [], [1.0] * len(grads.names)
        for group, members in groups.items():
            group_norm = math.hypot(*(grads.norms[index] for index in members))
            if group_norm == 0:
                continue
            mean = self._means[group] = self._mean(group, group_norm)
            bounds.append(high * mean)
            target = min(max(group_norm, self.min_norm, low * mean), bounds[-1])
            for index in members:
                factors[index] = target / group_norm
        grads.scale_each_(factors)
        return ClipResult(norm, math.hypot(*bounds), grads.coefficient())

    def _mean(self, group: str, norm: float) -> float:
        """S, with this norm."""
        before = self._means.get(group, norm)
        return self.beta * before + (1 - self.beta) * norm

    def _multiples(self) -> tuple[float, float]:
        """`high` and `low` of this step."""
        if self.transition is None:
            return self.high, self.low
        begin, end = self.transition
        late = min(max((self._steps - begin) / (end - begin), 0.0), 1.0)
        return (1 - late) * self.high + late * self.high_late, (1 - late) * self.low + late * self.low_late

    def _state(self) -> dict[str, Any]:
        means = tuple((group, (mean,)) for group, mean in self._means.items())
        return {"groups": self._grouping.key, "steps": self._steps, "means": means}

    def _restore(self, state: State) -> None:
        state.expect("groups", self._grouping.key)
        steps, means = state.count("steps"), state.rows("means", 1)
        self._steps, self._means = steps, {group: mean for group, [mean] in means.items()}
        self._restored = set(means)


def _check_multiples(high_name: str, high: object, low_name: str, low: object) -> tuple[float, float]:
    upper = check_number(high_name, high, "a finite number > 0", lambda number: 0 < number < math.inf)
    lower = check_number(low_name, low, f"a number in [0, {high_name}={upper:g}]", lambda number: 0 <= number <= upper)
    return upper, lower


def _check_transition(transition: Sequence[int]) -> tuple[int, int]:
    if isinstance(transition, str) or not isinstance(transition, Sequence) or len(transition) != 2:
        raise ValueError(f"transition: expected two steps such as (4000, 7000), got {transition!r}")
    begin, end = (check_count("transition", step, minimum=0) for step in transition)
    if begin >= end:
        raise ValueError(f"transition: expected the first step below the second, got {transition!r}")
    return begin, end
