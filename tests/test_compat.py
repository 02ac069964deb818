"""Each repair of separation.compat: what works with it, and that it is still needed."""

import os
import shutil
import subprocess
import sys

import pytest

REPAIRS = {
    "_replace_stempeg": "compat.museval()",
    "_restore_scipy_windows": "compat.nussl()",
    "_let_museval_score_every_estimate": "import numpy as np;"
    " x = np.random.default_rng(0).standard_normal((2, 500, 1));"
    " compat.museval().metrics.bss_eval(x, x, window=np.inf, hop=np.inf, filters_len=1, bsseval_sources_version=True)",
    "_let_nussl_load_its_own_files": "n = compat.nussl(); b = n.ml.networks.builders.build_recurrent_dpcl;"
    " m = n.ml.SeparationModel(b(9, 2, 1, True, 0, 2, ['sigmoid'], normalization_args={'momentum': 0.1}));"
    " m.save('m.pth', {'stft_params': n.STFTParams(16, 4, 'hann')}); n.ml.SeparationModel.load('m.pth')",
}


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


def test_sox_repair_is_still_needed(tmp_path):
    if shutil.which("sox"):
        pytest.skip("SoX is installed")
    assert "not found" in python("import sox", tmp_path).stderr


def test_without_ffmpeg_only_stems_are_lost(tmp_path):
    code = "from separation import compat; compat.museval(); import stempeg; stempeg.read_stems"
    result = python(code, tmp_path, path="/nonexistent")
    assert "need ffmpeg: install it, or use MUSDB18-HQ's WAV files" in result.stderr


def test_torch_load_stays_safe_for_everybody_else(tmp_path):
    code = (
        "from separation import compat; compat.nussl(); import torch, pathlib;"
        " torch.save({'x': pathlib.Path('y')}, 'f.pt'); torch.load('f.pt')"
    )
    assert "Weights only load failed" in python(code, tmp_path).stderr
