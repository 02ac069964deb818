"""A trained run as a model file for nussl."""

from pathlib import Path
from typing import Any

from separation.app.assembly import load_model
from separation.app.settings import run_config
from separation.compat import nussl
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder


def export(folder: RunFolder, output: Path) -> None:
    """Writes the run's best network with what nussl's separators need to use it: rate, STFT, input transform."""
    package = nussl()
    config = run_config(folder, ["device=cpu"])
    model = load_model(folder, config)
    stft = package.STFTParams(model.stft.window_length, model.stft.hop_length, "sqrt_hann")
    tfm = package.datasets.transforms
    transforms = tfm.Compose([tfm.MagnitudeSpectrumApproximation(), tfm.ToSeparationModel()])
    metadata = {
        "sample_rate": config.data.sample_rate,
        "num_channels": 1,
        "stft_params": stft,
        "train_dataset": {
            "name": folder.path.name,
            "folder": "",
            "stft_params": stft,
            "sample_rate": config.data.sample_rate,
            "num_channels": 1,
            "transforms": transforms,
        },
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        network: Any = model.network
        network.separation_model.save(str(temporary), metadata)
