"""A trained run as a model file for nussl."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from separation.app.assembly import build, load_model
from separation.app.settings import run_config
from separation.compat import nussl
from separation.errors import InputError
from separation.model.networks import Network
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder

LEVEL = "mixture_rms"
"""Where the file's description of the network says, of its input, which level the network expects."""


def export(folder: RunFolder, output: Path, github: bool = False, allow: object = ()) -> list[str]:
    """Writes the run's best network with what nussl's separators need to use it: rate, STFT, input transform.

    Args:
        github: for the nussl on GitHub, which calls itself 1.1.9 as PyPI's does and registers each layer twice.
        allow: packages of one's own that the run's settings name.

    Returns:
        Lines of Python that read a mixture as the network expects it: at the rate and, if there was one, the level of
        its training. nussl leaves levels as they are, where `separate.py` sets them.
    """
    package = nussl()
    config = run_config(folder, ["device=cpu"], allow=allow)
    model = load_model(folder, config)
    stft = package.STFTParams(model.stft.window_length, model.stft.hop_length, "sqrt_hann")
    tfm = package.datasets.transforms
    transforms = tfm.Compose([tfm.MagnitudeSpectrumApproximation(), tfm.ToSeparationModel()])
    rate, level = config.data.sample_rate, build(config, "mixing").mixture_rms
    metadata = {
        "sample_rate": rate,
        "num_channels": 1,
        "stft_params": stft,
        "train_dataset": {
            "name": folder.path.name,
            "folder": "",
            "stft_params": stft,
            "sample_rate": rate,
            "num_channels": 1,
            "transforms": transforms,
        },
    }
    network: Any = model.network
    if not isinstance(network, Network):
        raise InputError(
            f"run={folder.path}: its network, {type(network).__name__}, isn't made of nussl's modules, so nussl can't"
            " hold it; the paper's five models can be exported"
        )
    lines = [f'mixture = nussl.AudioSignal("mixture.wav", sample_rate={rate})']
    if level is not None:
        network.separation_model.config["modules"]["mix_magnitude"][LEVEL] = level
        lines.append(f"mixture.apply_gain({level:.6g} / mixture.to_mono(overwrite=False).rms())")
    if github:
        network.separation_model.register_state_dict_post_hook(_name_twice)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        network.separation_model.save(str(temporary), metadata)
    return lines


def _name_twice(_: nn.Module, state: dict[str, Tensor], __: str, ___: Any) -> None:
    """Adds the names that a layer's parameters have as the model's attribute to those that they have in its list."""
    state.update({name.removeprefix("layers."): tensor for name, tensor in state.items()})
