"""Clips in ignite's engines, nussl's among them.

A clipper is saved as it is:

    attach(clipper, trainer, optimizer, model)
    Checkpoint({"model": model, "optimizer": optimizer, "clipper": clipper}, ...)
"""

import torch
from ignite.engine import Engine, Events
from torch import nn

from gradclip.attachment import Attachment
from gradclip.clipper import Clipper


def attach(clipper: Clipper, engine: Engine, optimizer: torch.optim.Optimizer, model: nn.Module) -> Attachment:
    """Clips in each step of the optimizer, and puts what was measured into the engine's metrics.

    `engine.state.metrics` then holds train/grad_norm, train/clip_threshold and train/clip_coefficient after each
    iteration in which a step was taken.

    Args:
        clipper: the strategy.
        engine: whose update function calls `optimizer.step()`.
        optimizer: that one.
        model: names its parameters.
    """
    attachment = clipper.attach(optimizer, model.named_parameters())

    def keep(engine: Engine) -> None:
        if attachment.result is not None:
            raw = attachment.result.raw
            engine.state.metrics["train/grad_norm"] = raw.grad_norm
            engine.state.metrics["train/clip_threshold"] = raw.threshold
            engine.state.metrics["train/clip_coefficient"] = raw.coefficient

    engine.add_event_handler(Events.ITERATION_COMPLETED, keep)
    return attachment
