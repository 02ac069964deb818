"""Every strategy as its file under conf/clip builds it, and gradients to feed it."""

import functools

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from gradclip import Clipper
from separation.app.assembly import build
from separation.app.settings import CONF, compose_config

REQUIRED = {
    "value": ["clip.max_value=0.5"],
    "error_feedback": ["clip.max_norm=0.5", "clip.max_error_norm=1.5"],
}
"""Keys without a default."""
STRATEGIES = sorted(path.stem for path in (CONF / "clip").glob("*.yaml"))
SHAPES = {"encoder.weight": (4, 3), "encoder.bias": (4,), "mask.weight": (2, 4), "mask.bias": (2,)}


def make(name: str, *overrides: str) -> Clipper:
    """The strategy that `clip=name` and further overrides build."""
    return build(_compose(f"clip={name}", *REQUIRED.get(name, []), *overrides), "clip")


@functools.cache
def _compose(*overrides: str) -> DictConfig:
    return compose_config("config", overrides)


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


def gradients_of(parameters: list[tuple[str, Tensor]]) -> list[np.ndarray]:
    return [parameter.grad.numpy().copy() for _, parameter in parameters]
