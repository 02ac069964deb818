"""A run exported for nussl separates there as it does here."""

import numpy as np
import pytest
import torch
from conftest import run_program, voice

from separation.app.assembly import load_model
from separation.app.settings import run_config
from separation.compat import nussl
from separation.evaluation.metrics import si_sdr
from separation.model.separators import KMeansSeparator, separate
from separation.runs.run_folder import RunFolder

TRAINED = ["model.hidden_size=16", "trainer.max_steps=80", "data.num_train=160", "trainer.excerpt_frames=50"]
"""Enough training for embeddings that form two clusters."""


def load(run, tmp_path):
    """Our model, nussl's file, and a mixture at the level of training."""
    result = run_program("scripts/export_nussl.py", f"run={run}", f"output={tmp_path}/model.pth", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = RunFolder.open(run)
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
        ours = model.network(model.stft(mixture[None]).abs())["mask"][0].numpy()
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
        embedding = model.network(model.stft(mixture[None]).abs())["embedding"][0].numpy()
    np.testing.assert_allclose(theirs.extract_features()[:, :, 0].transpose(1, 0, 2), embedding, atol=1e-4)
    # On every bin, as nussl does here.
    separator = KMeansSeparator(num_sources=2, threshold=120.0, restarts=10, iterations=300, seed=0)
    own = separate(model.network, separator, model.stft, mixture[None], torch.tensor([len(mixture)]))[0]
    estimates = torch.stack([torch.from_numpy(estimate.audio_data[0]) for estimate in theirs()])
    agreement = torch.stack([si_sdr(own, estimates), si_sdr(own, estimates.flip(0))]).mean(1).max()
    assert agreement > 15
