"""What a clipper measured and did in one step."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor


class NonFiniteGradientError(ArithmeticError):
    """A gradient holds NaN or infinity, and the clipper was told to raise."""


class RawResult(NamedTuple):
    """A result's fields as they are: numbers, or 0-d tensors that a device may still be computing."""

    grad_norm: float | Tensor
    threshold: float | Tensor
    coefficient: float | Tensor
    should_step: bool | Tensor


class ClipResult:
    """What a clipper measured and did in one step.

    Reading a property waits for the device if the value was left there; `raw` has all four as they are.
    """

    __slots__ = ("raw",)

    def __init__(
        self,
        grad_norm: float | Tensor,
        threshold: float | Tensor = math.inf,
        coefficient: float | Tensor = 1.0,
        should_step: bool | Tensor = True,
    ) -> None:
        self.raw = RawResult(grad_norm, threshold, coefficient, should_step)

    @property
    def grad_norm(self) -> float:
        """L2 norm of the gradient over all parameters, before clipping."""
        return float(self.raw.grad_norm)

    @property
    def threshold(self) -> float:
        """The largest norm let through; inf where the norm isn't bounded, NaN where the gradient isn't finite."""
        return float(self.raw.threshold)

    @property
    def coefficient(self) -> float:
        """What the norm was multiplied by: min(1, threshold / grad_norm) where the whole gradient is scaled."""
        return float(self.raw.coefficient)

    @property
    def should_step(self) -> bool:
        """False where the step is to be left out: the gradient holds NaN or infinity, or the strategy says so."""
        return bool(self.raw.should_step)

    @property
    def clipped(self) -> bool:
        """Whether the gradient was made smaller."""
        return self.coefficient < 1.0

    def as_dict(self, prefix: str = "") -> dict[str, float | bool | Tensor]:
        """What one logs: grad_norm, clip_threshold, clip_coefficient and clipped, with `prefix` before each name.

        As in `raw`, values that a device may still be computing stay there.
        """
        grad_norm, threshold, coefficient, _ = self.raw
        return {
            f"{prefix}grad_norm": grad_norm,
            f"{prefix}clip_threshold": threshold,
            f"{prefix}clip_coefficient": coefficient,
            f"{prefix}clipped": coefficient < 1,
        }

    def __iter__(self) -> Iterator[float | bool]:
        """`grad_norm, threshold, coefficient, should_step = result`."""
        return iter((self.grad_norm, self.threshold, self.coefficient, self.should_step))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClipResult) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ClipResult({', '.join(f'{name}={value}' for name, value in self.raw._asdict().items())})"
