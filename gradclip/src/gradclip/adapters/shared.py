"""What the adapters have in common: names of what they log, and what they say of a checkpoint without a clipper."""

from torch import Tensor

from gradclip.clipper import Clipper
from gradclip.result import ClipResult


def metrics(clipper: Clipper, result: ClipResult, prefix: str = "train/") -> dict[str, float | Tensor]:
    """What all adapters log: the step's norm, threshold and coefficient, and the share of steps clipped so far.

    Values that a device may still be computing stay there, so the share is left out where a device counts.
    """
    values = result.as_dict(prefix)
    del values[f"{prefix}clipped"]
    return values if clipper.on_device else {**values, f"{prefix}clipped_fraction": clipper.clipped_fraction}


def missing_state(checkpoint: object) -> ValueError:
    """A training resumes from a checkpoint that was saved without a clipper."""
    return ValueError(
        f"{checkpoint}: the training resumes, but its clipper's state isn't there; resume from a checkpoint that was"
        " saved with the clipper, or pass missing_ok=True to begin with an empty memory"
    )
