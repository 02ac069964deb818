"""Gradient clipping for any PyTorch training loop; needs torch and NumPy only.

    from gradclip import AutoClip

    clipper = AutoClip(p=10)
    ...
    loss.backward()
    if clipper.clip_(model.parameters()).should_step:
        optimizer.step()

Or `clipper.attach(optimizer)` once, and every `optimizer.step()` clips. AutoClip's rivals lie in modules of their own,
as in `from gradclip.zclip import ZClip`; adapters for training frameworks in `gradclip.adapters`.
"""

from gradclip.attachment import Attachment
from gradclip.autoclip import AutoClip
from gradclip.chain import Chain
from gradclip.clipper import Clipper, NormClipper
from gradclip.fixed import FixedClip
from gradclip.none import NoClip
from gradclip.result import ClipResult, NonFiniteGradientError

__all__ = [
    "Attachment",
    "AutoClip",
    "Chain",
    "ClipResult",
    "Clipper",
    "FixedClip",
    "NoClip",
    "NonFiniteGradientError",
    "NormClipper",
]
