"""Ways to clip a network's gradients to a percentile of their norms: gradclip's, its authors', other packages'."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

from gradclip import AutoClip, AutoClipOnDevice, Clipper

Clip = Callable[[], object]
Way = Callable[[nn.Module, list[float], bool], Clip]
"""Makes a function that clips: of a network, of the norms seen so far, and of whether it is to clip or only to look."""


LOW, HIGH = 1.0, 99.0
"""Percentiles that lie below the norm and above it."""


def clip_grad_norm(network: nn.Module, norms: list[float], clips: bool) -> Clip:
    parameters, max_norm = list(network.parameters()), min(norms) if clips else max(norms)
    return lambda: nn.utils.clip_grad_norm_(parameters, max_norm)


def ours(make: Callable[[float], Clipper]) -> Way:
    """The way of a strategy of gradclip's that is made for a percentile."""

    def way(network: nn.Module, norms: list[float], clips: bool) -> Clip:
        parameters, clipper = list(network.parameters()), with_history(make(LOW if clips else HIGH), norms)
        return lambda: clipper.clip_(parameters)

    return way


def with_history(clipper: Clipper, norms: list[float]) -> Clipper:
    """A clipper that has seen these norms."""
    history = (("all", torch.tensor(norms, dtype=torch.float64)),)
    clipper.load_state_dict({**clipper.state_dict(), "history": history})
    return clipper


def published(network: nn.Module, norms: list[float], clips: bool) -> Clip:
    """As the authors' code does it."""
    parameters, p, norms = list(network.parameters()), LOW if clips else HIGH, list(norms)

    def clip() -> None:
        squares = 0.0
        for parameter in parameters:
            assert parameter.grad is not None
            squares += parameter.grad.data.norm(2).item() ** 2
        norms.append(squares**0.5)
        nn.utils.clip_grad_norm_(parameters, float(np.percentile(norms, p)))

    return clip


def smartclip(network: nn.Module, norms: list[float], clips: bool) -> Clip:
    package = import_module("smartclip")
    settings = {"mode": "percentile", "history": "window", "window_size": len(norms) + 1000, "warmup_steps": 0}
    clipper = package.AutoClip(percentile=LOW if clips else HIGH, min_history=1, **settings)
    for norm in norms:
        clipper.observe(norm)
    return lambda: package.apply(network, clipper)


def autoclip(network: nn.Module, norms: list[float], clips: bool) -> Clip:
    quantile = (LOW if clips else HIGH) / 100
    clipper = import_module("autoclip.torch").QuantileClip(
        network.parameters(), quantile, history_length=len(norms) + 1000, global_threshold=True
    )
    clipper.state["global_history"] = torch.tensor(norms, device=next(network.parameters()).device)
    step: Clip = clipper.step
    return step


def zclip(network: nn.Module, norms: list[float], clips: bool) -> Clip:
    """Which remembers a mean and a variance only."""
    clipper = import_module("zclip").ZClip(max_grad_norm=None)
    mean = min(norms) if clips else max(norms)

    def clip() -> None:
        clipper.initialized, clipper.mean, clipper.var = True, mean, (mean / 10) ** 2
        clipper.step(network)

    return clip


BASE = "clip_grad_norm_"
OURS: dict[str, Way] = {
    "AutoClip": ours(AutoClip),
    "AutoClipOnDevice": ours(AutoClipOnDevice),
    "AutoClipOnDevice, capturable": ours(lambda p: AutoClipOnDevice(p, window=100_000, capturable=True)),
}
OTHERS: dict[str, Way] = {"smartclip": smartclip, "autoclip": autoclip, "zclip": zclip}
"""By the name of their package."""


def ways() -> dict[str, Way]:
    """All that can be taken here, the one that the others are compared with first."""
    installed = {name: way for name, way in OTHERS.items() if find_spec(name) is not None}
    return {BASE: clip_grad_norm, **OURS, "authors' code": published, **installed}


def missing() -> list[str]:
    """Packages that aren't installed."""
    return [name for name in OTHERS if find_spec(name) is None]
