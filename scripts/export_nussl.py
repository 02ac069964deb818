"""Exports a trained run for nussl: `python scripts/export_nussl.py run=RUN_DIR [output=FILE.pth]`.

The file loads in nussl's `DeepMaskEstimation` (mask inference) or `DeepClustering` (embedding models), after
`from separation.compat import nussl; nussl = nussl()`, which lets nussl 1.1.9 run on today's packages. nussl keeps
pickled objects in its files: open only those you trust.
"""

import sys
from pathlib import Path

from separation.app import command as cli
from separation.app.assembly import load_model
from separation.compat import nussl
from separation.runs.atomic_files import replacing
from separation.runs.run_folder import RunFolder


def export(folder: RunFolder, output: Path) -> None:
    """Writes the run's best network with what nussl's separators need to use it: rate, STFT, input transform."""
    package = nussl()
    config = cli.run_config(folder, ["device=cpu"])
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
        model.network.separation_model.save(str(temporary), metadata)


def main() -> None:
    """Exports and says where the file is and which nussl class takes it."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    own = cli.compose_config("export_nussl", sys.argv[1:])
    folder = cli.run_folder(own.run)
    output = folder.path / "nussl.pth" if own.output is None else Path(str(own.output))
    export(folder, output)
    print(output)


if __name__ == "__main__":
    cli.entry_point(main)
