"""Clips in a loop that uses Accelerate.

As in:

    model, optimizer = accelerator.prepare(model, optimizer)
    attach(AutoClip(p=10), accelerator, optimizer, model)
"""

import torch
from accelerate import Accelerator
from torch import nn

from gradclip.attachment import Attachment
from gradclip.clipper import Clipper


def attach(
    clipper: Clipper, accelerator: Accelerator, optimizer: torch.optim.Optimizer, model: nn.Module
) -> Attachment:
    """Clips in each step that really happens (once per accumulation, after unscaling).

    `accelerator.save_state` and `load_state` save and restore the clipper too.

    Args:
        clipper: the strategy.
        accelerator: which has prepared the optimizer and the model.
        optimizer: as `accelerator.prepare` returned it.
        model: the same.
    """
    accelerator.register_for_checkpointing(clipper)
    return clipper.attach(optimizer, accelerator.unwrap_model(model).named_parameters())
