"""A model that nussl trained as a run folder."""

import json
from pathlib import Path
from typing import Any

import torch

from separation.app.assembly import build
from separation.app.nussl_export import LEVEL
from separation.app.settings import compose_config
from separation.compat import nussl
from separation.errors import InputError
from separation.model.features import Mixture
from separation.model.networks import Network
from separation.runs import checkpoint
from separation.runs.run_folder import RunFolder

MODELS: dict[tuple[str, ...], str] = {
    ("mask",): "mask_inference",
    ("embedding",): "deep_clustering",
    ("mask", "embedding"): "chimera",
}
"""Choices of conf/model by the network's heads."""


def import_model(file: Path, path: Path, overrides: list[str]) -> None:
    """Makes a run folder with the network and the settings of nussl's file.

    The file is unpickled, which can run any code: only for one that the user trusts.

    Args:
        file: what nussl's `SeparationModel.save` wrote, with the metadata that nussl's separators need.
        path: the run folder.
        overrides: of the run's settings, for what the file doesn't know, such as the corpus.

    Raises:
        InputError: the file can't be read, or the network is none of this project's, or the folder holds a run.
    """
    description, metadata, parameters = _load(file)
    settings = _network_settings(file, description) + _signal_settings(file, metadata)
    config = compose_config("config", [*settings, *overrides])
    config.run_dir = str(path)
    level = description["modules"]["mix_magnitude"].get(LEVEL)  # of a network that came from here
    if level is not None and config.mixing.rms is None:
        config.mixing.rms = level / config.mixing.num_sources**0.5
    for key in ("mixing", "stft"):
        build(config, key)
    network = build(config, "model.network")
    state = {f"separation_model.{name}": tensor for name, tensor in parameters.items()}
    if _kinds(state) != _kinds(network.state_dict()):
        raise _not_ours(file)
    checkpoint.check_network(file, state, network)
    network.load_state_dict(state)
    _check_outputs(file, description, network)
    with RunFolder.create(path, config, resume=False) as folder:
        checkpoint.save(folder.best, {"network": state})


def _load(file: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """The network's description, the metadata and the parameters."""
    try:
        saved = nussl().core.migration.SafeModelLoader().load(file)
        description = json.loads(saved["metadata"]["config"])
        # GitHub's nussl names each parameter a second time, without the prefix.
        parameters = {name: tensor for name, tensor in saved["state_dict"].items() if name.startswith("layers.")}
    except OSError:
        raise
    except Exception as error:  # whatever a file that nussl didn't write makes the reader do
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"file={file}: can't be read as a model that nussl saved ({reason}); give another") from error
    return description, saved["metadata"], parameters


def _network_settings(file: Path, description: dict[str, Any]) -> list[str]:
    """Overrides that choose the network; `_check_outputs` tells whether it is the same."""
    try:
        modules = description["modules"]
        heads = {name: modules[name]["args"] for name in ("mask", "embedding") if name in modules}
        stack = modules["recurrent_stack"]["args"]
        settings = [f"model.{key}={stack[key]}" for key in ("hidden_size", "num_layers", "dropout")]
        activations = {name: head["activation"] for name, head in heads.items()}  # a name, or a list of them
        first = {name: value if isinstance(value, str) else value[0] for name, value in activations.items()}
        if "mask" in heads:
            settings += [f"mixing.num_sources={heads['mask']['embedding_size']}", f"model.activation={first['mask']}"]
        if "embedding" in heads:
            key = "embedding_activation" if "mask" in heads else "activation"
            size = heads["embedding"]["embedding_size"]
            settings += [f"model.embedding_size={size}", f"model.{key}={first['embedding']}"]
        modules["mix_magnitude"]
        choice = MODELS[tuple(heads)]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise _not_ours(file) from error
    return [f"model={choice}", *settings]


def _signal_settings(file: Path, metadata: dict[str, Any]) -> list[str]:
    """Overrides for what the network was trained on: rate, STFT and, as in nussl, mixtures at their own level."""
    stft, rate, transforms = metadata["stft_params"], metadata["sample_rate"], metadata["train_dataset"]["transforms"]
    lengths = getattr(stft, "window_length", None), getattr(stft, "hop_length", None)
    if not isinstance(rate, int) or None in lengths:
        raise InputError(f"file={file}: doesn't say rate and STFT; save it in nussl with train_data=, or metadata=")
    if stft.window_type != "sqrt_hann":
        raise InputError(f"file={file}: its STFT has the window {stft.window_type}; here it is sqrt_hann alone")
    others = [t for t in getattr(transforms, "transforms", []) if type(t).__module__ != "nussl.datasets.transforms"]
    if others:
        raise InputError(f"file={file}: its input goes through {type(others[0]).__name__}, which isn't nussl's own")
    return [
        f"data.sample_rate={rate}", f"stft.window_length={lengths[0]}", f"stft.hop_length={lengths[1]}",
        "mixing.rms=null",
    ]  # fmt: skip


def _kinds(state: dict[str, torch.Tensor]) -> dict[str, object]:
    return {name: checkpoint.kind(tensor) for name, tensor in state.items()}


def _check_outputs(file: Path, description: dict[str, Any], network: Network) -> None:
    """Raises InputError unless nussl's own network gives the same outputs."""
    size = network.separation_model.layers["recurrent_stack"].rnn.input_size
    mixture = Mixture(magnitude=torch.rand(1, 5, size))
    try:
        theirs = Network(description)
        theirs.separation_model.layers.load_state_dict(network.separation_model.layers.state_dict())
        with torch.inference_mode():
            outputs, expected = network.eval()(mixture), theirs.eval()(mixture)
    except Exception as error:  # of modules that a user registered with nussl
        raise _not_ours(file) from error
    if outputs.keys() != expected.keys() or any(not outputs[name].equal(expected[name]) for name in outputs):
        raise _not_ours(file)


def _not_ours(file: Path) -> InputError:
    return InputError(
        f"file={file}: its network is none of conf/model (log magnitude, batch normalisation, BLSTM, masks or"
        " embeddings or both); evaluate it in nussl"
    )
