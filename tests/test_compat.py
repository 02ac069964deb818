"""Each repair of separation.compat: what works with it, and that it is still needed."""

import os
import re
import shutil
import subprocess
import sys

import librosa
import matplotlib.pyplot as pyplot
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from separation.compat import nussl

REPAIRS = {
    "_replace_stempeg": "compat.museval()",
    "_restore_scipy_windows": "compat.nussl()",
    "_let_museval_score_every_estimate": "import numpy as np;"
    " x = np.random.default_rng(0).standard_normal((2, 500, 1));"
    " compat.museval().metrics.bss_eval(x, x, window=np.inf, hop=np.inf, filters_len=1, bsseval_sources_version=True)",
}
CALLS = {
    "_let_nussl_load_its_own_files": "b = nussl.ml.networks.builders.build_recurrent_dpcl;"
    " m = nussl.ml.SeparationModel(b(9, 2, 1, True, 0, 2, ['sigmoid'], normalization_args={'momentum': 0.1}));"
    " m.save('m.pth', {'stft_params': nussl.STFTParams(16, 4, 'hann')}); nussl.ml.SeparationModel.load('m.pth')",
    "_let_nussl_call_librosa": "nussl.AudioSignal('tone.wav', sample_rate=8000)",
    "_let_nussl_draw": "nussl.utils.visualize_waveform(nussl.AudioSignal('tone.wav'))",
    "_restore_librosa_display": "nussl.utils.visualize_sources_as_masks([nussl.AudioSignal('tone.wav')] * 2)",
    "_let_nussl_overlap_and_add": "nussl.AudioSignal.get_window('hanning', 4)",
    "_let_nussl_cache_items": "nussl.datasets.transforms.Cache('cache', overwrite=True)({'index': 0})",
    "_restore_numpy_mat": "nussl.separation.spatial.Duet(nussl.AudioSignal('stereo.wav'), 2)()",
    "_let_nussl_report_scores": "import pandas;"
    " nussl.evaluation.report_card(pandas.DataFrame({'source': ['a'], 'file': ['b'], 'SDR': [1.0]}))",
}
"""What nussl can do with a repair, once it is imported."""


def tone(frequency: float, rate: int) -> np.ndarray:
    """A second of a sinusoid of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * frequency / rate * np.arange(rate))


def python(code: str, cwd, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path} if path else None
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)


def test_everything_imports_without_a_word(tmp_path):
    code = "from separation import compat; compat.nussl(); compat.museval()"
    result = python(code, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("repair", REPAIRS)
def test_each_repair_works_and_is_still_needed(repair, tmp_path):
    if repair == "_replace_stempeg" and shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is installed, so stempeg needs no stand-in")
    assert python(f"from separation import compat; {REPAIRS[repair]}", tmp_path).returncode == 0
    without = f"from separation import compat; compat.{repair} = lambda *_: None; {REPAIRS[repair]}"
    assert python(without, tmp_path).returncode != 0, f"{repair} is no longer needed"


@pytest.fixture
def tone_files(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "tone.wav", tone(440, 16_000), 16_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone(440, 16_000), tone(880, 16_000)], 1), 16_000)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("repair", CALLS)
def test_each_call_works(repair, tone_files):
    exec(CALLS[repair], {"nussl": nussl()})


def test_each_call_still_needs_its_repair(tone_files, tmp_path):
    code = f"""
from separation import compat
for repair in {list(CALLS)}:
    setattr(compat, repair, lambda *_: None)
nussl = compat.nussl()
for repair, call in {CALLS}.items():
    try:
        exec(call)
    except Exception:
        continue
    print(repair, "is no longer needed")
"""
    result = python(code, tmp_path)
    assert (result.returncode, result.stdout) == (0, "")


def test_sox_repair_is_still_needed(tmp_path):
    if shutil.which("sox"):
        pytest.skip("SoX is installed")
    assert "not found" in python("import sox", tmp_path).stderr


def test_without_ffmpeg_only_stems_are_lost(tmp_path):
    code = "from separation import compat; compat.museval(); import stempeg; stempeg.read_stems"
    result = python(code, tmp_path, path="/nonexistent")
    assert "musdb needs ffmpeg, for WAV files too: install it, or read MUSDB18-HQ with data=musdb18hq" in result.stderr


def test_torch_load_stays_safe_for_everybody_else(tmp_path):
    code = (
        "from separation import compat; compat.nussl(); import torch, pathlib;"
        " torch.save({'x': pathlib.Path('y')}, 'f.pt'); torch.load('f.pt')"
    )
    assert "Weights only load failed" in python(code, tmp_path).stderr


def test_nussl_resamples_and_measures_levels(tmp_path):
    soundfile.write(tmp_path / "tone.wav", np.stack([tone(440, 16_000), tone(880, 16_000)], 1), 16_000, subtype="FLOAT")
    signal = nussl().AudioSignal(str(tmp_path / "tone.wav"), sample_rate=8000)
    assert signal.sample_rate == 8000 and signal.audio_data.shape == (2, 8000)
    for channel, frequency in zip(signal.audio_data, (440, 880), strict=True):
        np.testing.assert_allclose(channel[500:-500], tone(frequency, 8000)[500:-500], atol=1e-3)
    signal = nussl().AudioSignal(audio_data_array=tone(440, 8000), sample_rate=8000)
    frames = signal.rms(win_len=800)  # of whole periods, at the ends by reflection: 0.5 / sqrt(2)
    assert len(frames) == 21
    np.testing.assert_allclose(frames, np.sqrt(0.125), atol=1e-3)


def test_nussls_mel_projection_holds_librosas_filters():
    filters = librosa.filters.mel(sr=8000, n_fft=256, n_mels=20)
    layer = nussl().ml.networks.modules.MelProjection(8000, 129, 20)
    expected = torch.from_numpy(filters / (filters.sum(1, keepdims=True) + 1e-8))
    torch.testing.assert_close(layer.transform.weight.data, expected)


@pytest.mark.parametrize("y_axis", ["linear", "mel"])
def test_nussl_draws(y_axis):
    figure = pyplot.figure()
    signals = [nussl().AudioSignal(audio_data_array=tone(f, 8000), sample_rate=8000) for f in (440, 880)]
    nussl().utils.visualize_spectrogram(signals[0], y_axis=y_axis)
    [mesh] = pyplot.gca().collections
    decibels = mesh.get_array().reshape(-1, mesh.get_coordinates().shape[1] - 1)
    loudest = mesh.get_coordinates()[decibels.mean(1).argmax(), 0, 1]
    assert decibels.max() == 0 and loudest == pytest.approx(440, abs=32)
    pyplot.clf()
    nussl().utils.visualize_sources_as_waveform(signals)
    assert pyplot.gca().get_xlim()[1] >= 1
    pyplot.clf()
    nussl().utils.visualize_sources_as_masks({"low": signals[0], "high": signals[1]}, y_axis=y_axis)
    assert len(pyplot.gca().images) == 2 and pyplot.gca().get_ylim()[1] == pytest.approx(4000)
    pyplot.close(figure)


def test_nussls_overlap_add_restores_a_signal():
    package = nussl()
    signal = package.AudioSignal(audio_data_array=tone(440, 8000), sample_rate=8000)
    add = package.separation.composite.OverlapAdd
    windows, shape = add.collect_windows(signal, 0.2, 0.1)
    np.testing.assert_allclose(
        add.overlap_and_add(windows, shape, 8000, 0.2, 0.1).audio_data, signal.audio_data, atol=1e-6
    )


def test_nussls_cache_keeps_items(tmp_path):
    transforms = nussl().datasets.transforms
    cache = transforms.Cache(str(tmp_path / "cache"), cache_size=3, overwrite=True)
    items = [{"index": i, "mix": np.full(2, i), "name": str(i)} for i in (0, 2)]
    for item in items:
        cache(item)
    assert cache.cache.nchunks_initialized == 2
    again = transforms.Cache(str(tmp_path / "cache"), overwrite=False)
    for item in items:
        read = again({"index": item["index"]})
        assert read["name"] == item["name"] and (read["mix"] == item["mix"]).all()
    with pytest.raises(transforms.TransformException, match="written to index 1"):
        again({"index": 1})
    cache.overwrite = True
    with pytest.raises(transforms.TransformException, match="written to index 2"):
        again({"index": 2})


def test_nussls_report_card_holds_means_and_medians():
    table = pd.DataFrame({"source": ["voice"] * 3, "file": list("abc"), "SDR": [1.0, 2.0, 6.0], "SIR": [0.0, 3.0, 9.0]})
    card = nussl().evaluation.report_card(table, decimals=1)
    rows = [re.split(r"[│\s]+", line.strip("│ \n")) for line in card.splitlines() if "SDR" in line or "SIR" in line]
    assert rows == [  # truncated, as nussl does
        ["SDR", *["3.0", "+/-", "2.6"] * 2],
        ["SIR", *["4.0", "+/-", "4.5"] * 2],
        ["SDR", "2.0", "2.0"],
        ["SIR", "3.0", "3.0"],
    ]
