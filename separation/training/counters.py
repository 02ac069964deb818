"""How far a run is: what a checkpoint holds beside the network, the optimizer and the clipper."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gradclip import ClipResult
from separation.errors import InputError


@dataclass
class Progress:
    """Counters of a training run, and the sums of the epoch under way."""

    step: int = 0
    """Optimizer steps taken, those left out included."""
    validated: int = 0
    """The step of the last validation."""
    best_loss: float = math.inf
    """The lowest validation loss so far; of `trainer.monitor=si_sdr` the highest SI-SDR, with a minus."""
    best_averaged_loss: float = math.inf
    """The same of the averaged weights."""
    stale_epochs: int = 0
    """How many epochs in a row were no better."""
    seconds: float = 0.0
    """Time in training, over all starts."""
    loss_sum: float = 0.0
    counted: int = 0
    clipped: int = 0
    skipped: int = 0
    """Of this epoch: the losses' sum, their number, the steps clipped and left out."""
    faults: list[str] = field(default_factory=list)
    """Names of the mixtures whose loss or gradients were NaN or infinite, in the steps up to this one."""
    faulty_steps: int = 0
    """How many steps in a row those were."""

    def count(self, loss: float, clip: ClipResult, names: list[str]) -> None:
        """Takes note of a step on the mixtures `names`; without names it can't be their fault."""
        self.step += 1
        self.clipped += clip.clipped
        self.skipped += not clip.should_step
        if math.isfinite(loss) and math.isfinite(clip.grad_norm):
            self.loss_sum += loss
            self.counted += 1
            self.faults, self.faulty_steps = [], 0
        elif names:
            self.faults += names
            self.faulty_steps += 1

    def epoch_row(self, num_steps: int) -> dict[str, float]:
        """The training columns of `epochs.csv` for an epoch of so many steps."""
        return {
            "train/loss": self.loss_sum / self.counted if self.counted else math.nan,
            "train/clipped_fraction": self.clipped / num_steps,
            "train/skipped_steps": self.skipped,
        }

    def begin_epoch(self) -> None:
        """The epoch's sums begin anew."""
        self.loss_sum, self.counted, self.clipped, self.skipped = 0.0, 0, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: object) -> "Progress":
        """Restores what `state_dict` gave.

        Raises:
            InputError: it is something else.
        """
        kinds = {entry.name: type(getattr(cls(), entry.name)) for entry in fields(cls)}
        if isinstance(state, dict):
            state = {"best_averaged_loss": math.inf, "stale_epochs": 0, **state}  # earlier versions counted neither
        if not isinstance(state, dict) or {name: type(value) for name, value in state.items()} != kinds:
            raise InputError("the counters of its training run are missing or damaged")
        progress = cls(**state)
        counts = [value for value in state.values() if type(value) is int]
        sound = (
            all(0 <= count < 2**53 for count in counts)
            and all(count <= progress.step for count in counts)
            and bool(progress.faults) == (progress.faulty_steps > 0)
            and 0 <= progress.seconds < math.inf
            and math.isfinite(progress.loss_sum)
            and progress.best_loss > -math.inf
            and progress.best_averaged_loss > -math.inf
            and all(type(name) is str for name in progress.faults)
        )
        if not sound:
            raise InputError("the counters of its training run are out of range")
        return progress
