"""A run exported for nussl separates there as it does here."""

import shutil

import numpy as np
import pytest
import soundfile
import soxr
import torch
from conftest import call_program, voice
from omegaconf import OmegaConf

from separation.app.assembly import load_model
from separation.app.nussl_export import export
from separation.app.settings import run_config
from separation.compat import nussl
from separation.model.features import Mixture
from separation.model.separators import KMeansSeparator, separate
from separation.model.si_sdr import si_sdr
from separation.runs.run_folder import RunFolder

TRAINED = ["model.hidden_size=16", "trainer.max_steps=80", "data.num_train=160", "trainer.excerpt_frames=50"]
"""Enough training for embeddings that form two clusters."""


def load(run, tmp_path):
    """Our model, nussl's file, and a mixture at the level of training."""
    folder = RunFolder.open(run)
    export(folder, tmp_path / "model.pth")
    mixture = voice(120, 2.0, 8000, 0) + voice(230, 2.0, 8000, 1)
    mixture *= 0.07 / np.sqrt(np.mean(mixture**2))
    signal = nussl().AudioSignal(audio_data_array=mixture.astype(np.float64), sample_rate=8000)
    return load_model(folder, run_config(folder, [])), signal, torch.from_numpy(mixture)


@pytest.mark.parametrize("name", ["mask_inference", "waveform", "chimera"])
def test_masks_in_nussls_deep_mask_estimation(name, make_run, tmp_path):
    model, signal, mixture = load(make_run(f"model={name}"), tmp_path)
    theirs = nussl().separation.deep.DeepMaskEstimation(signal, model_path=f"{tmp_path}/model.pth")
    expected = theirs.forward()[:, :, 0].transpose(1, 0, 2)
    with torch.inference_mode():
        ours = model.network(Mixture(mixture[None], model.stft))["mask"][0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    estimates = np.stack([estimate.audio_data[0] for estimate in theirs()])
    own = separate(model.network, model.separator, model.stft, mixture[None], torch.tensor([len(mixture)]))[0]
    np.testing.assert_allclose(own.numpy(), estimates, atol=1e-5)


@pytest.mark.parametrize("name", ["whitened_kmeans", "chimera"])
def test_estimates_of_nussls_deep_clustering(name, make_run, tmp_path):
    model, signal, mixture = load(make_run(f"model={name}", *TRAINED), tmp_path)
    theirs = nussl().separation.deep.DeepClustering(
        signal, num_sources=2, model_path=f"{tmp_path}/model.pth", mask_type="binary", percentile=0, n_init=10
    )
    with torch.inference_mode():
        embedding = model.network(Mixture(mixture[None], model.stft))["embedding"][0].numpy()
    np.testing.assert_allclose(theirs.extract_features()[:, :, 0].transpose(1, 0, 2), embedding, atol=1e-4)
    # On every bin, as nussl does here.
    separator = KMeansSeparator(num_sources=2, threshold=120.0, restarts=10, iterations=300, seed=0)
    own = separate(model.network, separator, model.stft, mixture[None], torch.tensor([len(mixture)]))[0]
    estimates = torch.stack([torch.from_numpy(estimate.audio_data[0]) for estimate in theirs()])
    agreement = torch.stack([si_sdr(own, estimates), si_sdr(own, estimates.flip(0))]).mean(1).max()
    assert agreement > 15


@pytest.mark.parametrize("level", [0.002, 1.0, 20.0])
def test_a_mixture_read_as_printed_is_heard_at_the_level_of_training(level, make_run, tmp_path, monkeypatch):
    folder = RunFolder.open(make_run("model=mask_inference"))
    lines = export(folder, tmp_path / "model.pth")
    assert len(lines) == 2
    one, two = voice(120, 2.0, 16_000, 0), voice(230, 2.0, 16_000, 1)
    channels = np.stack([one + two, one + 0.5 * two], 1)  # at twice the model's rate
    soundfile.write(tmp_path / "mixture.wav", level * channels, 16_000, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    names = {"nussl": nussl()}
    exec("\n".join(lines), names)
    theirs = nussl().separation.deep.DeepMaskEstimation(names["mixture"], model_path="model.pth")
    assert theirs.model.config["modules"]["mix_magnitude"]["mixture_rms"] == pytest.approx(0.05 * 2**0.5)
    model = load_model(folder, run_config(folder, []))
    resampled = torch.from_numpy(soxr.resample(channels, 16_000, 8000).T.copy()).float()
    mixture = resampled * 0.05 * 2**0.5 / resampled.mean(0).square().mean().sqrt()
    with torch.inference_mode():
        ours = model.network(Mixture(mixture, model.stft))["mask"].numpy()
    np.testing.assert_allclose(theirs.forward().transpose(2, 1, 0, 3), ours, atol=2e-3)


def test_the_script_prints_how_to_read_a_mixture(make_run, tmp_path):
    folder = RunFolder.open(make_run("model=mask_inference"))
    result = call_program("scripts/export_nussl.py", f"run={folder.path}", "output=model.pth", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["model.pth", "", *export(folder, tmp_path / "other.pth")]


def test_a_network_that_takes_any_level_is_given_the_rate_alone(make_run, tmp_path):
    run = shutil.copytree(make_run("model=mask_inference"), tmp_path / "run")
    config = OmegaConf.load(run / "config.yaml")
    config.mixing.rms = None
    OmegaConf.save(config, run / "config.yaml")
    lines = export(RunFolder.open(run), tmp_path / "model.pth")
    assert lines == ['mixture = nussl.AudioSignal("mixture.wav", sample_rate=8000)']


def test_githubs_nussl_loads_a_file_of_its_own(make_run, tmp_path):
    class GitHubs(nussl().ml.SeparationModel):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            for key in self.layers:  # as nussl/ml/networks/separation_model.py has it since March 2021
                setattr(self, key, self.layers[key])

    folder = RunFolder.open(make_run("model=chimera"))
    export(folder, tmp_path / "model.pth", github=True)
    saved = torch.load(tmp_path / "model.pth", weights_only=False)
    GitHubs(saved["config"]).load_state_dict(saved["state_dict"])
    export(folder, tmp_path / "model.pth")
    plain = torch.load(tmp_path / "model.pth", weights_only=False)["state_dict"]
    nussl().ml.SeparationModel(saved["config"]).load_state_dict(plain)
    for name, tensor in plain.items():
        assert torch.equal(tensor, saved["state_dict"][name])
        assert torch.equal(tensor, saved["state_dict"][name.removeprefix("layers.")])
    with pytest.raises(RuntimeError, match="Missing key"):
        GitHubs(saved["config"]).load_state_dict(plain)
