"""Gradient clipping for any PyTorch training loop; needs torch and NumPy only.

    from separation.clip import AutoClip

    clipper = AutoClip(p=10)
    ...
    loss.backward()
    if clipper.clip_(model.parameters()).should_step:
        optimizer.step()

Or `clipper.attach(optimizer)` once, and every `optimizer.step()` clips. AutoClip's rivals lie in modules of their own,
as in `from separation.clip.zclip import ZClip`; adapters for training frameworks in `separation.clip.adapters`.
"""

from separation.clip.attachment import Attachment
from separation.clip.autoclip import AutoClip
from separation.clip.chain import Chain
from separation.clip.clipper import Clipper, ClipResult, NonFiniteGradientError, NormClipper
from separation.clip.fixed import FixedClip
from separation.clip.none import NoClip

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
