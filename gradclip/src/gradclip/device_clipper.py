"""What the strategies that never make the host wait for the device have in common."""

import torch
from torch import Tensor

from gradclip.checks import check_choice
from gradclip.clipper import Clipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult


class _Count:
    """A counter of the clipper's that a device keeps; reading it waits for the device."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, clipper: "DeviceClipper", owner: type) -> int:
        return int(clipper._counts[self._place])

    def __set__(self, clipper: "DeviceClipper", value: int) -> None:
        clipper._counts[self._place] = value


class DeviceClipper(Clipper):
    """A strategy that computes where the gradients are and leaves its results there, as 0-d tensors.

    Args:
        on_nonfinite: "skip" or "zero", see `Clipper`; to raise, the host would have to wait.
    """

    on_device = True
    nonfinite_steps = _Count(0)
    finite_steps = _Count(1)
    _clipped_steps = _Count(2)

    def __init__(self, on_nonfinite: str = "skip") -> None:
        self._device_counts = torch.zeros(3, dtype=torch.int64)
        super().__init__(check_choice("on_nonfinite", on_nonfinite, ("skip", "zero")))

    @property
    def _counts(self) -> Tensor | list[int]:
        """Steps whose gradients weren't finite, those whose were, and those that were clipped; can be written to."""
        return self._device_counts

    def _count(self, finite: Tensor, coefficient: Tensor) -> None:
        """Counts a step."""
        self._device_counts = self._device_counts.to(finite.device)
        self._device_counts += torch.stack([~finite, finite, coefficient < 1])

    def _result(
        self,
        grads: Gradients,
        norm: Tensor,
        threshold: Tensor,
        coefficient: Tensor,
        finite: Tensor,
        should_step: Tensor,
    ) -> ClipResult:
        """Counts the step, and treats a gradient that isn't finite as `on_nonfinite` says."""
        self._count(finite, coefficient)
        if self.on_nonfinite == "zero":
            for tensor in grads.entries():
                tensor.masked_fill_(~finite.to(tensor.device), 0)
            coefficient = torch.where(finite, coefficient, 0.0)
            should_step = should_step | ~finite
        return ClipResult(norm, threshold, coefficient, should_step)
