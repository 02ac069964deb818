"""AutoClip (Seetharaman, Wichern, Pardo, Le Roux, 2020)."""

import math
from array import array
from typing import Any

import torch

from gradclip.checks import check_count, check_percentile, warn_of_small_percentile
from gradclip.clipper import Clipper, factor_to_threshold
from gradclip.gradients import Gradients
from gradclip.groups import Grouping, Groups, GroupsSetting
from gradclip.percentile import StreamingPercentile
from gradclip.result import ClipResult
from gradclip.state import WHOLE, State


class AutoClip(Clipper):
    """Bounds the norm of the whole gradient by the p-th percentile of all norms seen so far, the current one included.

    At step t, with n = ||g||: H <- H + {n}; threshold = percentile_p(H); g <- g * min(1, threshold / n). The first
    step is never clipped; p = 100 clips nothing, p = 0 clips everything to the smallest norm so far. Multiplying the
    loss by a constant multiplies the threshold by it, so the method needs no tuning to a loss's scale. Zero and
    non-finite norms are not recorded (one zero would freeze p = 0 for ever): a deviation from Algorithm 1.

    Args:
        p: percentile in [0, 100]; may be changed between steps.
        window: how many of the last norms count, >= 1; None: all, as in the paper.
        groups: a history and a threshold for each group of parameters instead of one for all (the paper's future work):
            "tensor", "module", or a mapping such as {"masks": ["mask.*"], "rest": ["*"]}, which need parameters with
            names; or "param_group", the groups of the optimizer that the clipper is attached to. The result's threshold
            is then the norm of all thresholds.
        warmup: how many of a history's norms are recorded before it clips anything, >= 0 and below `window`.
        on_nonfinite: see `Clipper`.

    Reference: P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for Source
    Separation Networks", IEEE MLSP 2020, Algorithm 1.
    State: every norm of every group (or the last `window`), 8 bytes each. Cost: one pass that reads the gradients, and
    one that writes them where it clips; some microseconds for the percentile, however long the history.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    def __init__(
        self,
        p: float = 10.0,
        window: int | None = None,
        groups: Groups | None = None,
        warmup: int = 0,
        on_nonfinite: str = "skip",
    ) -> None:
        super().__init__(on_nonfinite)
        self.p = p
        warn_of_small_percentile("p", self.p)
        self.window = None if window is None else check_count("window", window)
        self.warmup = check_count("warmup", warmup, minimum=0)
        if self.window is not None and self.warmup >= self.window:
            raise ValueError(f"warmup: expected a number below window={window!r}, or it never ends; got {warmup!r}")
        self._grouping = None if groups is None else Grouping(groups)
        self.per_tensor = self._grouping is not None
        self._histories: dict[str, StreamingPercentile] = {}

    @property
    def p(self) -> float:
        """The percentile, in [0, 100]."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = check_percentile("p", value)

    @property
    def groups(self) -> GroupsSetting | None:
        """As the argument."""
        return None if self._grouping is None else self._grouping.setting

    @property
    def history(self) -> "array[float]":
        """The norms of the whole gradient that count, in their order; a copy.

        Raises:
            ValueError: with groups there are several; see `histories`.
        """
        if self._grouping is not None:
            raise ValueError("history: with groups there is one for each; see histories")
        return self.histories.get(WHOLE, array("d"))

    @property
    def histories(self) -> "dict[str, array[float]]":
        """The same of each group by name; without groups, under "all"."""
        return {group: history.values for group, history in self._histories.items()}

    def attached_to(self, *optimizers: torch.optim.Optimizer) -> None:
        if self._grouping is not None:
            self._grouping.optimizers = optimizers

    def _clip(self, grads: Gradients) -> ClipResult:
        if self._grouping is None:
            norm = grads.norm
            threshold = self._threshold(WHOLE, norm)
            factor = factor_to_threshold(norm, threshold)
            grads.scale_(factor)
            return ClipResult(norm, threshold, factor)
        norm, groups = grads.norm, self._grouping.members(grads, "AutoClip with groups")
        self._check_restored(groups)
        thresholds, factors = [], [1.0] * len(grads.names)
        for group, members in groups.items():
            group_norm = math.hypot(*(grads.norms[index] for index in members))
            thresholds.append(self._threshold(group, group_norm))
            for index in members:
                factors[index] = factor_to_threshold(group_norm, thresholds[-1])
        grads.scale_each_(factors)
        return ClipResult(norm, math.hypot(*thresholds), grads.coefficient())

    def _threshold(self, group: str, norm: float) -> float:
        """Records the group's norm and returns its threshold."""
        history = self._histories.get(group)
        if history is None:
            history = self._histories[group] = StreamingPercentile(self.window)
        if norm > 0:
            history.add(norm)
        return history.percentile(self.p) if len(history) > self.warmup else math.inf

    def _samples_threshold(self, norms: list[float]) -> float:
        if self._grouping is not None:
            return super()._samples_threshold(norms)
        threshold = self._threshold(WHOLE, 0.0)
        for norm in norms:
            threshold = self._threshold(WHOLE, norm)
        return threshold

    def _state(self) -> dict[str, Any]:
        return {
            "window": self.window,
            "groups": None if self._grouping is None else self._grouping.key,
            "history": tuple((group, history.tensor()) for group, history in self._histories.items()),
        }

    def _restore(self, state: State) -> None:
        state.expect("window", self.window)
        state.expect("groups", None if self._grouping is None else self._grouping.key)
        histories = state.histories("history", grouped=self._grouping is not None)
        self._histories = {group: StreamingPercentile(self.window, values) for group, values in histories.items()}
        self._restored = set() if self._grouping is None else set(histories)
