"""Gradient clipping for any PyTorch training loop; needs torch and NumPy only.

from separation.clip import AutoClip

clipper = AutoClip(p=10)
...
loss.backward()
if clipper.clip_(model.parameters()).should_step:
    optimizer.step()
"""

from separation.clip.autoclip import AutoClip
from separation.clip.clipper import Clipper, ClipResult
from separation.clip.fixed import FixedClip
from separation.clip.none import NoClip

__all__ = ["AutoClip", "ClipResult", "Clipper", "FixedClip", "NoClip"]
