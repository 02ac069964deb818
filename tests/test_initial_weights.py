"""Weights of another run to begin with."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from conftest import CPU
from torch import nn

from separation.app.initial_weights import InitialWeights
from separation.app.settings import compose_config
from separation.errors import InputError
from separation.runs import checkpoint


def network(**sizes: int) -> nn.Module:
    return nn.ModuleDict({name: nn.Linear(4, size) for name, size in sizes.items()})


@pytest.fixture
def source(make_run, tmp_path: Path) -> Path:
    """A run folder with a small network in its checkpoint."""
    run = shutil.copytree(make_run(), tmp_path / "source")
    checkpoint.save(run / "checkpoints/best.pt", {"network": network(body=3, head=2).state_dict()})
    return run


def weights(path: Path, *overrides: str) -> InitialWeights:
    return InitialWeights.of(compose_config("config", [f"init_from={path}", "data=folder", "data.root=x", *overrides]))


def test_weights_are_the_sources(source):
    given = network(body=3, head=2)
    weights(source).load_into(given)
    for name, tensor in checkpoint.load(source / "checkpoints/best.pt", CPU)["network"].items():
        assert torch.equal(given.state_dict()[name], tensor)
    other = network(body=3, head=2)
    weights(source / "checkpoints/best.pt").load_into(other)
    assert all(map(torch.equal, given.parameters(), other.parameters()))


def test_what_does_not_fit_is_named_or_left_fresh(source):
    given = network(body=3, head=5, tail=1)
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    message = (
        r"init_from=.*best.pt: 4 parameters don't fit: head.weight \(\(2, 4\) there, \(5, 4\) here\), head.bias"
        r" \(\(2,\) there, \(5,\) here\), tail.weight \(not in the checkpoint\), tail.bias .*; .* init_strict=false"
    )
    with pytest.raises(InputError, match=message):
        weights(source).load_into(given)
    assert all(torch.equal(before[name], tensor) for name, tensor in given.state_dict().items())
    lenient = weights(source, "init_strict=false")
    lenient.load_into(given)
    saved = checkpoint.load(source / "checkpoints/best.pt", CPU)["network"]
    for name, tensor in given.state_dict().items():
        assert torch.equal(tensor, saved[name] if name.startswith("body.") else before[name])
    digest = hashlib.sha256((source / "checkpoints/best.pt").read_bytes()).hexdigest()
    assert lenient.record(given) == {
        "file": str(source / "checkpoints/best.pt"),
        "sha256": digest,
        "loaded": ["body.weight", "body.bias"],
        "fresh": ["head.weight", "head.bias", "tail.weight", "tail.bias"],
        "unused": [],
    }


def test_what_the_network_lacks_is_refused_too(source):
    with pytest.raises(InputError, match=r"2 parameters don't fit: head.weight \(not in this network\)"):
        weights(source).load_into(network(body=3))
    weights(source, "init_strict=false").load_into(network(body=3))


def test_nothing_in_common_is_an_error(source):
    for given in (network(neck=3), network(body=7)):
        with pytest.raises(InputError, match="none of its 4 tensors fits a parameter of this network"):
            weights(source, "init_strict=false").load_into(given)


def test_types_and_values_are_checked(source):
    state = network(body=3).state_dict()
    checkpoint.save(source / "checkpoints/best.pt", {"network": {**state, "body.bias": torch.zeros(3).double()}})
    with pytest.raises(InputError, match=r"body.bias \(of another type\)"):
        weights(source).load_into(network(body=3))
    checkpoint.save(source / "checkpoints/best.pt", {"network": {**state, "body.bias": torch.full((3,), torch.nan)}})
    with pytest.raises(InputError, match="body.bias is NaN or infinite"):
        weights(source).load_into(network(body=3))
    checkpoint.save(source / "checkpoints/best.pt", {"network": [1]})
    with pytest.raises(InputError, match="holds no network"):
        weights(source)


def test_other_signals_are_refused(source, caplog):
    message = r"data.sample_rate=16000 \(it was 8000\), stft.window_length=512 \(it was 256\), stft.hop_length=128"
    for path in (source, source / "checkpoints/best.pt"):
        with pytest.raises(InputError, match=message):
            weights(path, "data.sample_rate=16000")
    weights(source, "data.sample_rate=16000", "init_strict=false")
    assert "was trained on other signals" in caplog.text
    alone = shutil.copy(source / "checkpoints/best.pt", source.parent / "alone.pt")
    assert weights(alone, "data.sample_rate=16000").signal == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("missing", "init_from=.*missing: no such|missing: no such checkpoint"),
        ("source/..", "holds 1 runs; give one of them"),
        ("source/audio", "init_from=.*is no run folder"),
        ("source/config.yaml", "config.yaml: is damaged or cut short"),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(value, message, source):
    with pytest.raises(InputError, match=message):
        weights(source.parent / value)
