"""A model that nussl saved, as a run folder."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import call_program, voice

from separation.app.assembly import load_model
from separation.app.nussl_export import export
from separation.app.nussl_import import import_model
from separation.app.settings import run_config
from separation.compat import nussl
from separation.errors import InputError
from separation.model.features import Mixture
from separation.model.separators import separate
from separation.runs.run_folder import RunFolder

CORE = {"num_features": 129, "hidden_size": 12, "num_layers": 2, "bidirectional": True, "dropout": 0.3}


def saved(path, builder="mask_inference", window="sqrt_hann", transforms=(), **arguments):
    """A file of nussl's with random parameters, as its trainer's data describe it."""
    package, tfm = nussl(), nussl().datasets.transforms
    heads = {"num_sources": 2, "mask_activation": ["sigmoid"]}
    heads |= {"embedding_size": 5, "embedding_activation": ["sigmoid", "unit_norm"]}
    keys = {"mask_inference": list(heads)[:2], "dpcl": list(heads)[2:], "chimera": list(heads)}[builder]
    build = getattr(package.ml.networks.builders, f"build_recurrent_{builder}")
    torch.manual_seed(0)
    model = package.ml.SeparationModel(build(**CORE | {key: heads[key] for key in keys} | arguments))
    statistics = model.layers["normalization"]
    if hasattr(statistics, "batch_norm"):
        statistics.batch_norm.running_mean.fill_(-60.0)
        statistics.batch_norm.running_var.fill_(400.0)
    stft = package.STFTParams(256, 64, window)
    transforms = tfm.Compose([tfm.PhaseSensitiveSpectrumApproximation(), *transforms, tfm.ToSeparationModel()])
    data = {"stft_params": stft, "sample_rate": 8000, "num_channels": 1, "transforms": transforms}
    data |= {"name": "x", "folder": ""}
    metadata = {"stft_params": stft, "sample_rate": 8000, "num_channels": 1, "train_dataset": data}
    model.save(str(path), metadata)
    return path


def imported(file, path, *overrides: str):
    """The imported model and its settings."""
    import_model(file, path, list(overrides))
    folder = RunFolder.open(path)
    config = run_config(folder, [])
    return load_model(folder, config), config


@pytest.mark.parametrize("builder", ["mask_inference", "chimera"])
@pytest.mark.parametrize("activation", ["sigmoid", ["softmax"]])
def test_an_imported_model_gives_nussls_estimates(builder, activation, tmp_path):
    file = saved(tmp_path / "model.pth", builder, mask_activation=activation)
    model, config = imported(file, tmp_path / "run")
    assert (config.mixing.rms, config.data.sample_rate) == (None, 8000)
    mixture = voice(120, 1.0, 8000, 0) + voice(230, 1.0, 8000, 1)
    signal = nussl().AudioSignal(audio_data_array=mixture.astype(np.float64), sample_rate=8000)
    theirs = nussl().separation.deep.DeepMaskEstimation(signal, model_path=str(file))()
    ours = separate(model.network, model.separator, model.stft, torch.from_numpy(mixture)[None], torch.tensor([8000]))
    np.testing.assert_allclose(ours[0], np.stack([signal.audio_data[0] for signal in theirs]), atol=1e-6)


def test_an_imported_model_gives_nussls_embeddings(tmp_path):
    file = saved(tmp_path / "model.pth", "dpcl", embedding_activation=["tanh", "unit_norm"])
    model, _ = imported(file, tmp_path / "run", "mixing.num_sources=3")
    mixture = voice(120, 1.0, 8000, 0)
    signal = nussl().AudioSignal(audio_data_array=mixture.astype(np.float64), sample_rate=8000)
    theirs = nussl().separation.deep.DeepClustering(signal, num_sources=3, model_path=str(file)).extract_features()
    with torch.inference_mode():
        ours = model.network(Mixture(torch.from_numpy(mixture)[None], model.stft))["embedding"][0]
    np.testing.assert_allclose(ours, theirs[:, :, 0].transpose(1, 0, 2), atol=1e-5)
    assert model.separator.num_sources == 3


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    target = estimate @ reference / (reference @ reference) * reference
    return 10 * np.log10(target @ target / ((estimate - target) @ (estimate - target)))


def run_import(file, *arguments: str):
    return call_program("scripts/import_nussl.py", f"file={file}", "run_dir=run", *arguments, cwd=file.parent)


def test_a_pickle_is_opened_on_request_alone(tmp_path):
    class Harmful:
        def __reduce__(self):
            return open, (str(tmp_path / "harm"), "w")

    torch.save(Harmful(), tmp_path / "model.pth")
    refusals = {"allow_pickle=false": "add allow_pickle=true", "allow_pickle=1": "expected true or false"}
    for flag, words in refusals.items():
        result = run_import(tmp_path / "model.pth", flag)
        assert result.returncode == 1 and words in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "harm").exists() and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_evaluate_scores_it_as_nussl_does(speech_folder, tmp_path):
    file = saved(tmp_path / "model.pth")
    data = ("data=folder", f"data.root={speech_folder}", "data.num_test=2", "mixing.rms=0.05")
    result = run_import(file, "allow_pickle=true", *data)
    assert (result.returncode, result.stdout) == (0, "run\n"), result.stderr
    result = call_program("evaluate.py", "run=run", "num_audio=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "run/scores.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    folders = sorted((tmp_path / "run/audio/test").iterdir())
    assert (len(folders), len(rows)) == (2, 4)
    for folder in folders:
        name = folder.name.partition("_")[2]
        ours = np.array([float(row["si_sdr"]) for row in rows if row["mixture"] == name])
        signal = nussl().AudioSignal(str(folder / "mixture.wav"))
        estimates = nussl().separation.deep.DeepMaskEstimation(signal, model_path=str(file))()
        references = [soundfile.read(folder / f"reference_{source}.wav")[0] for source in (1, 2)]
        pairs = [[si_sdr(estimate.audio_data[0], reference) for reference in references] for estimate in estimates]
        best = max(pairs[0][0] + pairs[1][1], pairs[0][1] + pairs[1][0]) / 2
        assert ours.mean() == pytest.approx(best, abs=1e-3)


def test_an_exported_run_comes_back(make_run, tmp_path):
    folder = RunFolder.open(make_run("model=chimera"))
    for github in (False, True):
        export(folder, tmp_path / "model.pth", github)
        model, config = imported(tmp_path / "model.pth", tmp_path / f"run{github}")
        before = run_config(folder, [])
        assert config.mixing.rms == pytest.approx(before.mixing.rms) and config.model.network == before.model.network
        for name, tensor in load_model(folder, before).network.state_dict().items():
            assert torch.equal(tensor, model.network.state_dict()[name])


class Louder:
    """A transform of a user's own."""

    def __call__(self, data):
        return data


REFUSED = {
    "InstanceNorm": ({"normalization_class": "InstanceNorm"}, "is none of conf/model"),
    "GRU": ({"rnn_type": "gru"}, "is none of conf/model"),
    "epsilon": ({"normalization_args": {"eps": 1e-1}}, "is none of conf/model"),
    "one direction": ({"bidirectional": False}, "is none of conf/model"),
    "two channels": ({"num_audio_channels": 2}, "is none of conf/model"),
    "tanh": ({"mask_activation": ["tanh"]}, "model.activation=tanh: expected one of sigmoid"),
    "two activations": ({"mask_activation": ["sigmoid", "unit_norm"]}, "is none of conf/model"),
    "Hann": ({"window": "hann"}, "its STFT has the window hann; here it is sqrt_hann alone"),
    "transform": ({"transforms": [Louder()]}, "its input goes through Louder, which isn't nussl's own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_network_here_can_hold_is_refused(case, tmp_path):
    arguments, message = REFUSED[case]
    file = saved(tmp_path / "model.pth", **arguments)
    with pytest.raises(InputError, match=message):
        import_model(file, tmp_path / "run", [])
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_models_are_refused(tmp_path):
    file = saved(tmp_path / "model.pth")
    whole = torch.load(file, weights_only=False)
    wrong = tmp_path / "wrong.pth"

    def error() -> str:
        with pytest.raises(InputError) as caught:
            import_model(wrong, tmp_path / "run", [])
        return str(caught.value)

    wrong.write_bytes(file.read_bytes()[:1000])
    assert f"file={wrong}: can't be read as a model that nussl saved" in error()
    torch.save({"network": {}}, wrong)
    assert "can't be read as a model that nussl saved (KeyError" in error()
    torch.save(whole | {"metadata": whole["metadata"] | {"sample_rate": None}}, wrong)
    assert "doesn't say rate and STFT; save it in nussl with train_data=" in error()
    torch.save(whole | {"config": '{"modules": {}}'}, wrong)
    assert "is none of conf/model" in error()
    config = json.loads(whole["config"])
    config["modules"]["log_spectrogram"]["class"] = "OfAUser"
    torch.save(whole | {"config": json.dumps(config)}, wrong)
    assert "is none of conf/model" in error()
    whole["state_dict"]["layers.mask.linear.bias"][0] = torch.nan
    torch.save(whole, wrong)
    assert "layers.mask.linear.bias is NaN or infinite" in error()


def test_a_run_is_not_replaced(tmp_path):
    file = saved(tmp_path / "model.pth")
    import_model(file, tmp_path / "run", [])
    with pytest.raises(InputError, match="holds a run already"):
        import_model(file, tmp_path / "run", [])
