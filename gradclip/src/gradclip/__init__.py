"""Gradient clipping for any PyTorch training loop; needs nothing but torch.

    from gradclip import AutoClip

    clipper = AutoClip(p=10)
    ...
    loss.backward()
    if clipper.clip_(model.parameters()).should_step:
        optimizer.step()

Or `clipper.attach(optimizer)` once, and every `optimizer.step()` clips. Adapters for training frameworks are in
`gradclip.adapters`.
"""

from gradclip.adaclip import AdaClip
from gradclip.adagc import AdaGC
from gradclip.adagn import AdaGN
from gradclip.agc import AGC
from gradclip.aggc import AGGC
from gradclip.attachment import Attachment
from gradclip.autoclip import AutoClip
from gradclip.autoclip_on_device import AutoClipOnDevice
from gradclip.block_normalized import BlockNormalized
from gradclip.chain import Chain
from gradclip.clipper import Clipper, NormClipper, TensorClipper
from gradclip.error_feedback import ErrorFeedback
from gradclip.fixed import FixedClip
from gradclip.momentum_reset import MomentumReset
from gradclip.none import NoClip
from gradclip.per_sample import PerSampleResult
from gradclip.result import ClipResult, NonFiniteGradientError
from gradclip.skip_above import SkipAbove
from gradclip.skip_spikes import SkipSpikes
from gradclip.skip_step import SkipStep
from gradclip.spam import SpikeClip
from gradclip.spectral import SpectralClip
from gradclip.value import ValueClip
from gradclip.zclip import ZClip

__version__ = "0.2.0"

__all__ = [
    "AGC",
    "AGGC",
    "AdaClip",
    "AdaGC",
    "AdaGN",
    "Attachment",
    "AutoClip",
    "AutoClipOnDevice",
    "BlockNormalized",
    "Chain",
    "ClipResult",
    "Clipper",
    "ErrorFeedback",
    "FixedClip",
    "MomentumReset",
    "NoClip",
    "NonFiniteGradientError",
    "NormClipper",
    "PerSampleResult",
    "SkipAbove",
    "SkipSpikes",
    "SkipStep",
    "SpectralClip",
    "SpikeClip",
    "TensorClipper",
    "ValueClip",
    "ZClip",
]
