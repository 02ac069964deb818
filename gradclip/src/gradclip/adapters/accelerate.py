"""Clips in a loop that uses Accelerate.

As in:

    model, optimizer = accelerator.prepare(model, optimizer)
    attachment = attach(AutoClip(p=10), accelerator, optimizer, model)
    ...
    accelerator.log(metrics(attachment.clipper, attachment.result), step=step)  # gradclip.adapters.shared
"""

from accelerate import Accelerator
from torch import nn

from gradclip.attachment import Attachment, Optimizers
from gradclip.clipper import Clipper


def attach(clipper: Clipper, accelerator: Accelerator, optimizer: Optimizers, model: nn.Module) -> Attachment:
    """Clips in each step that really happens (once per accumulation, after unscaling).

    `accelerator.save_state` and `load_state` save and restore the clipper too. Accelerate refuses a state that was
    saved without one (its number of custom checkpoints differs); to begin with an empty memory, attach after
    `load_state`.

    Args:
        clipper: the strategy.
        accelerator: which has prepared the optimizer and the model.
        optimizer: as `accelerator.prepare` returned it; or several, which step in turn.
        model: the same.
    """
    accelerator.register_for_checkpointing(clipper)
    return clipper.attach(optimizer, accelerator.unwrap_model(model).named_parameters())
