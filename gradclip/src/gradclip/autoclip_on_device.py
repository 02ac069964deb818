"""AutoClip without a wait for the device's latest work."""

from array import array
from typing import Any

import torch
from torch import Tensor

from gradclip.checks import check_count, check_flag, check_percentile, warn_of_small_percentile
from gradclip.clipper import LARGEST_NORM
from gradclip.device_clipper import DeviceClipper
from gradclip.device_history import HostHistory, RingHistory
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import WHOLE, State


class AutoClipOnDevice(DeviceClipper):
    """AutoClip whose norm and threshold stay on the device: the host runs one step ahead of it.

    The same thresholds as AutoClip(p, window), to float32 rounding of the norms, and to the last bit for the same
    norms. The host keeps the history up to the step before, whose norm has been copied to it meanwhile; where the
    percentile then lies depends on this step's norm alone, and the device works it out. All results are 0-d tensors
    until they are read. Norms outside of 1e-15 to 1e19 are beyond float32's squares and count as zero or infinite.

    Skipping a step costs a wait, unless a fused optimizer does it: attach the clipper to one. Without, `on_nonfinite`
    "zero" needs no wait, and "skip" asks the caller to read `should_step`.

    Args:
        p: percentile in [0, 100]; may be changed between steps.
        window: how many of the last norms count, >= 1; None: all, as in the paper.
        capturable: keep the history on the device, so that the host waits for nothing and a step can be captured in a
            CUDA graph, after one step outside of it; needs a window.
        on_nonfinite: "skip" or "zero", see `Clipper`.

    Reference: as AutoClip.
    State: the norms that count, 8 bytes each; capturable, three times that in device memory. Cost: one pass that reads
    the gradients and one that writes them, always; some ten operations on single numbers, or capturable, some sixty, of
    which ten read or write the whole window.

    Raises:
        TypeError, ValueError: an argument is not as described; or in a step, a CUDA graph is being captured.
    """

    def __init__(
        self, p: float = 10.0, window: int | None = None, capturable: bool = False, on_nonfinite: str = "skip"
    ) -> None:
        self.window = None if window is None else check_count("window", window)
        self.capturable = check_flag("capturable", capturable)
        self._p = check_percentile("p", p)
        warn_of_small_percentile("p", self._p)
        self._history: HostHistory | RingHistory
        if not self.capturable:
            self._history = HostHistory(self._p, self.window)
        elif self.window is not None:
            self._history = RingHistory(self._p, self.window)
        else:
            raise ValueError("window: expected the size of a captured step's history, such as 100000, got None")
        super().__init__(on_nonfinite)

    @property
    def p(self) -> float:
        """The percentile, in [0, 100]."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        self._p = check_percentile("p", value)
        self._history.set_p(self._p)

    @property
    def history(self) -> "array[float]":
        """The norms that count, in their order; reading them waits for the last step's."""
        return array("d", self._history.values().tolist())

    def _apply(self, grads: Gradients) -> ClipResult:
        norm = grads.device_norm()
        finite = norm < LARGEST_NORM
        threshold = self._history.observe(norm, finite)
        coefficient = torch.where(norm > threshold, threshold / norm, 1.0)
        grads.scale_(coefficient)
        return self._result(grads, norm, threshold, coefficient, finite, should_step=finite)

    @property
    def _counts(self) -> Tensor | list[int]:
        return self._history.counts

    def _count(self, finite: Tensor, coefficient: Tensor) -> None:
        """The history counts."""

    def _clip(self, grads: Gradients) -> ClipResult:
        return self._apply(grads)

    def _state(self) -> dict[str, Any]:
        return {"window": self.window, "history": ((WHOLE, self._history.values()),)}

    def _restore(self, state: State) -> None:
        if state.is_first_version:
            state.expect("capacity", self.window)
            values = torch.tensor(state.norms("history"), dtype=torch.float64)
        else:
            state.expect("window", self.window)
            values = state.histories("history", grouped=False).get(WHOLE, torch.empty(0))
        self._history.load(values)
