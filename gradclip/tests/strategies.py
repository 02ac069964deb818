"""Every strategy by the name of its choice, and gradients to feed it."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gradclip import (
    AGC,
    AGGC,
    AdaClip,
    AdaGC,
    AdaGN,
    AutoClip,
    AutoClipOnDevice,
    BlockNormalized,
    Chain,
    Clipper,
    ClipResult,
    ErrorFeedback,
    FixedClip,
    NoClip,
    SkipAbove,
    SkipSpikes,
    SkipStep,
    SpectralClip,
    SpikeClip,
    ValueClip,
    ZClip,
)

STRATEGIES: dict[str, Callable[..., Clipper]] = {
    "adaclip": AdaClip,
    "adagc": AdaGC,
    "adagn": AdaGN,
    "agc": AGC,
    "aggc": partial(AGGC, low=0.3, transition=(40, 90)),
    "autoclip": AutoClip,
    "autoclip_on_device": AutoClipOnDevice,
    "autoclip_per_module": partial(AutoClip, groups="module"),
    "autoclip_per_tensor": partial(AutoClip, groups="tensor"),
    "autoclip_windowed": partial(AutoClip, window=100),
    "block_normalized": BlockNormalized,
    "chain": lambda **settings: Chain({"first": SkipSpikes(), "second": AutoClip()}, **settings),
    "error_feedback": partial(ErrorFeedback, max_norm=0.5, max_error_norm=1.5),
    "fixed": FixedClip,
    "none": NoClip,
    "skip_above": partial(SkipAbove, max_norm=20.0),
    "skip_spikes": SkipSpikes,
    "skip_step": SkipStep,
    "spam": SpikeClip,
    "spectral": SpectralClip,
    "value": partial(ValueClip, max_value=0.5),
    "zclip": ZClip,
}
"""With values for the arguments that have no default."""
SHAPES = {"encoder.weight": (4, 3), "encoder.bias": (4,), "mask.weight": (2, 4), "mask.bias": (2,)}


def make(name: str, **settings: object) -> Clipper:
    """A new clipper with these settings, and defaults for the others."""
    return STRATEGIES[name](**settings)


def named_parameters(dtype: torch.dtype = torch.float64) -> list[tuple[str, Tensor]]:
    """Four tensors of a small network, without gradients."""
    generator = torch.Generator().manual_seed(0)
    return [
        (name, torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)))
        for name, shape in SHAPES.items()
    ]


def random_gradients(steps: int, seed: int = 0) -> list[list[np.ndarray]]:
    """Gradients with heavy tails: the whole step's scale varies, so does each tensor's, and single entries spike."""
    random = np.random.default_rng(seed)
    return [
        [
            random.lognormal(0, 0.7) * random.standard_normal(shape) * (1 + 200 * (random.random(shape) < 0.01))
            for shape in SHAPES.values()
        ]
        for _ in range(steps)
    ]


def set_gradients(parameters: list[tuple[str, Tensor]], gradients: list[np.ndarray], scale: float = 1.0) -> None:
    for (_, parameter), gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient * scale, dtype=parameter.dtype)


def clip(clipper: Clipper, parameters: list[tuple[str, Tensor]]) -> ClipResult:
    """A step, with a loss for the strategies that need one."""
    clipper.observe_loss(float(parameters[0][1].grad.sum().nan_to_num()))
    return clipper.clip_(parameters)


def gradients_of(parameters: list[tuple[str, Tensor]]) -> list[np.ndarray]:
    return [parameter.grad.numpy().copy() for _, parameter in parameters]
