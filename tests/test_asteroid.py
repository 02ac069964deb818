"""Our losses beside asteroid 0.7.0's, which are right too."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch

from separation.model.losses import deep_clustering, snr_pit


@pytest.fixture
def asteroid(monkeypatch):
    """Imports a module of asteroid's losses alone: the whole package needs much that is not installed."""
    found = importlib.util.find_spec("asteroid")
    if found is None or found.origin is None:
        pytest.skip("asteroid is not installed")
    for name in ("asteroid", "asteroid.losses"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(found.origin).parent.joinpath(*name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, package)
    return lambda name: importlib.import_module(f"asteroid.losses.{name}")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(("kind", "scale_invariant"), [("sisdr", True), ("snr", False)])
def test_waveform_losses(kind, scale_invariant, count, asteroid):
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(3, count, 4000, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, count, 4000, generator=generator, dtype=torch.float64)
    estimate = reference.roll(1, dims=1) + 0.3 * noise
    pairwise = asteroid("sdr").PairwiseNegSDR(kind, zero_mean=False)
    expected = asteroid("pit_wrapper").PITLossWrapper(pairwise, pit_from="pw_mtx")(estimate, reference)
    ours = snr_pit(estimate, reference, scale_invariant).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-8)


@pytest.mark.parametrize("silent", [False, True])
def test_deep_clustering(silent, asteroid):
    """asteroid divides by the number of bins once, we by its square."""
    generator = torch.Generator().manual_seed(0)
    embedding = torch.nn.functional.normalize(torch.rand(3, 40, 10, 6, generator=generator), dim=-1)
    source = torch.randint(2, (3, 40, 10), generator=generator)
    weight = (torch.rand(3, 40, 10, generator=generator) > (0.4 if silent else -1)).float()
    expected = asteroid("cluster").deep_clustering_loss(embedding.flatten(1, 2), source, weight)
    ours = deep_clustering(embedding, torch.nn.functional.one_hot(source).float(), weight)
    torch.testing.assert_close(ours * weight.sum((1, 2)), expected.double(), rtol=1e-5, atol=0)
