"""The step skipping of OLMo 2, by the loss and the norm."""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gradclip.checks import check_count, check_flag, check_number
from gradclip.device_clipper import DeviceClipper
from gradclip.gradients import Gradients
from gradclip.result import ClipResult
from gradclip.state import State
from gradclip.tensors import is_dtensor

SMALLEST_WINDOW = 6
"""With it, the first standard deviation is of two values."""


class SkipStep(DeviceClipper):
    """Leaves out the whole step where the loss or the gradient's norm lies k standard deviations above its mean.

    should_step = x <= mean + k * std for x the loss and x the norm, over the last `window` steps before this one, with
    std as of a sample (divided by one less than their number); from step number window // 2 on.
    The gradient is never changed, and what is left out is recorded too, so that a lasting change of level is accepted
    after a while. The result's threshold is the norm's.

        clipper.observe_loss(loss)  # before each step
        loss.backward()

    All is computed where the gradients are: the host never waits for the device. Skipping itself costs a wait, unless a
    fused optimizer does it: attach the clipper to one. By hand, reading `should_step` waits; so does a `Chain` that it
    is a member of. A step can be captured in a CUDA graph after one step outside of it.

    Where `torch.distributed` runs, the loss is averaged over all processes: each has its own, and all have to decide
    the same, or their parameters would differ from then on. A loss that isn't finite counts as such a gradient.

    `SkipSpikes` needs no loss: it decides on the host, by the logarithm of the norm.

    Args:
        k: standard deviations, > 0.
        window: steps, >= 6.
        average_loss: average the loss over the processes; false where it is the same in all of them, or where they
            train networks of their own.
        on_nonfinite: "skip" or "zero", see `Clipper`.

    Reference: Team OLMo, "2 OLMo 2 Furious", 2024, and OLMo-core's SkipStepOptimizer, whose numbers these are.
    State: the last `window` losses and norms. Cost: one pass that reads the gradients; one number over the network.

    Raises:
        TypeError, ValueError: an argument is not as described; in a step, no loss was handed over.
    """

    def __init__(
        self, k: float = 6.0, window: int = 128, average_loss: bool = True, on_nonfinite: str = "skip"
    ) -> None:
        super().__init__(on_nonfinite)
        self.k = check_number("k", k, "a finite number > 0", lambda number: 0 < number < math.inf)
        self.window = check_count("window", window, minimum=SMALLEST_WINDOW)
        self.average_loss = check_flag("average_loss", average_loss)
        self._memory = _Memory(self.window, [], [], torch.device("cpu"))

    @property
    def history(self) -> dict[str, list[float]]:
        """The losses and norms that count, in their order; reading them waits for the device."""
        losses, norms = self._memory.values()
        return {"loss": losses, "norm": norms}

    def _apply(self, grads: Gradients) -> ClipResult:
        return self._decide(grads, grads.device_norm())

    def _clip(self, grads: Gradients) -> ClipResult:
        return self._decide(grads, torch.tensor(grads.norm, dtype=torch.float64, device=grads.tensors[0].device))

    def _decide(self, grads: Gradients, norm: Tensor) -> ClipResult:
        loss = self._loss_of(grads, norm.device)
        if self._memory.device != norm.device:
            losses, norms = self._memory.values()
            self._memory = _Memory(self.window, losses, norms, norm.device)
        values = torch.stack([loss, norm])
        finite, is_zero = values.isfinite().all(), norm == 0
        limits = self._memory.limits(self.k)
        should_step = finite & ((values <= limits).all() | is_zero)
        self._memory.add(values, finite & ~is_zero)
        threshold = torch.where(finite, limits[1], torch.nan)
        return self._result(grads, norm, threshold, torch.ones_like(norm), finite, should_step)

    def _loss_of(self, grads: Gradients, device: torch.device) -> Tensor:
        """The step's loss, a float64 scalar."""
        if grads.loss is None:
            raise ValueError("loss: SkipStep decides by it too; call clipper.observe_loss(loss) before each step")
        whole = grads.loss.full_tensor() if is_dtensor(grads.loss) else grads.loss
        loss = whole.to(device, torch.float64, non_blocking=True, copy=True).view(())
        if self.average_loss and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(loss)
            loss /= dist.get_world_size()
        return loss

    def _state(self) -> dict[str, Any]:
        losses, norms = self._memory.values()
        return {"window": self.window, "losses": tuple(losses), "norms": tuple(norms)}

    def _restore(self, state: State) -> None:
        state.expect("window", self.window)
        losses, norms = state.numbers("losses"), state.norms("norms")
        if len(losses) != len(norms) or len(norms) > self.window:
            raise ValueError(
                f"losses: expected as many as norms and at most {self.window}, got {len(losses)} and {len(norms)}"
            )
        self._memory = _Memory(self.window, losses, norms, self._memory.device)


class _Memory:
    """The last losses and norms in a tensor of a fixed size that is updated in place: the newest on the right.

    Their place depends on their order alone, and so does a sum's rounding: a restored clipper decides as before.
    """

    @torch.inference_mode(False)  # it outlives the mode it was made in
    def __init__(self, size: int, losses: list[float], norms: list[float], device: torch.device) -> None:
        self.device = device
        self._values = torch.zeros(2, size, dtype=torch.float64, device=device)
        self._values[:, size - len(norms) :] = torch.tensor([losses, norms], dtype=torch.float64, device=device)
        self._ages = torch.arange(size, 0, -1, device=device)
        self._count = torch.tensor(len(norms), device=device)

    def limits(self, k: float) -> Tensor:
        """mean + k * std of the losses and of the norms; infinity before the first decision."""
        count, size = self._count.clamp(min=2), len(self._ages)
        means = self._values.sum(1) / count
        deviations = torch.where(self._ages <= self._count, self._values - means[:, None], 0)
        stds = (deviations.square().sum(1) / (count - 1)).sqrt()
        return torch.where(self._count + 1 >= size // 2, means + k * stds, torch.inf)

    def add(self, values: Tensor, valid: Tensor) -> None:
        """Records a step's loss and norm where they are valid, in place of the oldest."""
        moved = torch.cat([self._values[:, 1:], values[:, None]], 1)
        self._values.copy_(torch.where(valid, moved, self._values))
        self._count.copy_((self._count + valid).clamp(max=len(self._ages)))

    def values(self) -> list[list[float]]:
        """The losses and the norms, in their order."""
        return self._values[:, len(self._ages) - int(self._count) :].tolist()
