"""Learning rates that change while a network trains: `scheduler=cosine`, `plateau`, ... (conf/scheduler)."""

import math
import warnings
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from separation.errors import InputError, check_count, check_number


class Cosine(LambdaLR):
    """From 0 linearly to the optimizer's rate in `warmup_steps`, then along half a cosine to `final` of it at the step
    `num_steps`, where it stays (Loshchilov and Hutter, 2017, without restarts).

    Args:
        optimizer: its learning rate is the highest.
        num_steps: length in optimizer steps.
        warmup_steps: of these, how many it rises; step 1 of 1,000 has a thousandth of the rate.
        final: fraction of the rate at the end.
    """

    def __init__(self, optimizer: Optimizer, num_steps: int | None, warmup_steps: int, final: float) -> None:
        if num_steps is None:
            raise InputError(
                "scheduler.num_steps: has no value where trainer.max_steps is null; give the schedule's length in"
                " optimizer steps"
            )
        check_count("scheduler.num_steps", num_steps)
        check_count("scheduler.warmup_steps", warmup_steps, minimum=0, maximum=num_steps)
        check_number("scheduler.final", final, 0, 1)

        def factor(taken: int) -> float:
            """Of the step after so many."""
            if taken < warmup_steps:
                return (taken + 1) / warmup_steps
            progress = min(1.0, (taken - warmup_steps) / max(1, num_steps - warmup_steps))
            return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

        super().__init__(optimizer, factor)


class Step(LambdaLR):
    """Multiplied by `gamma` every `step_size` optimizer steps.

    Args:
        optimizer: its learning rate is the first.
        step_size, gamma: as in torch's StepLR.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float) -> None:
        check_count("scheduler.step_size", step_size)
        check_number("scheduler.gamma", gamma, 0, 1)
        super().__init__(optimizer, lambda taken: gamma ** (taken // step_size))


class Plateau(ReduceLROnPlateau):
    """Multiplied by `factor` where validation hasn't got better for more than `patience` epochs.

    Args:
        optimizer: its learning rate is the first.
        factor, patience, min_lr: as in torch's ReduceLROnPlateau.
    """

    def __init__(self, optimizer: Optimizer, factor: float, patience: int, min_lr: float) -> None:
        check_number("scheduler.factor", factor, 0.001, 0.999)
        check_count("scheduler.patience", patience, minimum=0)
        check_number("scheduler.min_lr", min_lr, 0, 1e6)
        super().__init__(
            optimizer, factor=factor, patience=patience, min_lr=min_lr, eps=0, threshold=0, threshold_mode="abs"
        )
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]  # as torch's other schedules do


class Schedule:
    """What changes the learning rate, if anything does.

    Every optimizer step counts, those left out as well. Gradients are clipped as they are, before the learning rate
    comes in, so a schedule leaves a clipper's thresholds alone.

    Args:
        scheduler: one of torch's; `ReduceLROnPlateau` hears of every epoch's validation, any other of every step.
    """

    def __init__(self, scheduler: LRScheduler | None = None) -> None:
        self.scheduler = scheduler
        self._by_epoch = isinstance(scheduler, ReduceLROnPlateau)

    def after_step(self) -> None:
        """An optimizer step was taken, or left out."""
        if self.scheduler is not None and not self._by_epoch:
            with warnings.catch_warnings():  # torch warns where the first step was left out
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.scheduler.step()

    def after_epoch(self, loss: float) -> None:
        """An epoch was validated; the lower `loss` the better."""
        if self._by_epoch:
            self.scheduler.step(loss)  # type: ignore[arg-type, union-attr]

    def state_dict(self) -> dict[str, Any]:
        """Counters, and the rates at the beginning."""
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def check_state(self, state: dict[str, Any]) -> None:
        """Raises ValueError unless it is a state of the same schedule."""
        ours = self.state_dict()
        if {name: type(value) for name, value in state.items()} != {name: type(value) for name, value in ours.items()}:
            raise ValueError("scheduler: was saved by another one")
        if state.get("base_lrs") != ours.get("base_lrs"):
            raise ValueError(f"scheduler: it began at {state['base_lrs']}, the settings say {ours['base_lrs']}")
        for name, value in state.items():
            if isinstance(value, int | float) and not 0 <= abs(value) <= math.inf:
                raise ValueError(f"scheduler: {name} is {value}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state)
