"""What the adapters have in common: names of what they log, and what they say of a checkpoint without a clipper."""

from torch import Tensor

from gradclip.result import ClipResult


def metrics(result: ClipResult, prefix: str = "train/") -> dict[str, float | Tensor]:
    """What was measured, under the names that all adapters log; reading it makes no host wait for a device."""
    raw = result.raw
    return {
        f"{prefix}grad_norm": raw.grad_norm,
        f"{prefix}clip_threshold": raw.threshold,
        f"{prefix}clip_coefficient": raw.coefficient,
    }


def missing_state(checkpoint: object) -> ValueError:
    """A training resumes from a checkpoint that was saved without a clipper."""
    return ValueError(
        f"{checkpoint}: the training resumes, but its clipper's state isn't there; resume from a checkpoint that was"
        " saved with the clipper, or pass missing_ok=True to begin with an empty memory"
    )
