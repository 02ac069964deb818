"""Clips in ignite's engines, nussl's among them.

A clipper is saved as it is:

    attach(clipper, trainer, optimizer, model)
    Checkpoint({"model": model, "optimizer": optimizer, "clipper": clipper}, ...)

`Checkpoint.load_objects` refuses a file that was saved without the clipper.
"""

from ignite.engine import Engine, Events
from torch import nn

from gradclip.adapters.shared import metrics
from gradclip.attachment import Attachment, Optimizers
from gradclip.clipper import Clipper


def attach(clipper: Clipper, engine: Engine, optimizer: Optimizers, model: nn.Module) -> Attachment:
    """Clips in each step of the optimizer, and puts what was measured into the engine's metrics.

    `engine.state.metrics` then holds train/grad_norm, train/clip_threshold, train/clip_coefficient and
    train/clipped_fraction, from the first step on.

    Args:
        clipper: the strategy.
        engine: whose update function calls `optimizer.step()`.
        optimizer: that one; or several, which step in turn.
        model: names its parameters.
    """
    attachment = clipper.attach(optimizer, model.named_parameters())

    def keep(engine: Engine) -> None:
        if attachment.result is not None:
            engine.state.metrics.update(metrics(clipper, attachment.result))

    engine.add_event_handler(Events.ITERATION_COMPLETED, keep)
    return attachment
