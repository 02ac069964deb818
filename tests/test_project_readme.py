"""The README's code does what it says."""

import re

import numpy as np
import pytest
import torch
from conftest import ROOT

from gradclip import AutoClip


def test_algorithm_1_in_the_readme_is_autoclip():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    [algorithm] = [block for block in blocks if "def autoclip_" in block]
    names = {"torch": torch, "np": np}
    exec(algorithm, names)
    clipper, clipped_steps = AutoClip(p=10), 0
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        scale = torch.rand(1, generator=random)
        gradients = [scale * torch.randn(parameter.shape, generator=random) for parameter in ours.parameters()]
        for layer in (ours, theirs):
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
        names["autoclip_"](list(theirs.parameters()))
        result = clipper.clip_(ours.parameters())
        clipped_steps += result.clipped
        assert names["norms"][-1] == pytest.approx(result.grad_norm, rel=1e-6)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)
    assert 10 < clipped_steps < 20
