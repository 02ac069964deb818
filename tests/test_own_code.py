"""Classes of a package outside of the project, by configuration: the examples of docs/extending.md as they stand."""

import csv
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_program

from separation.app.settings import compose_config
from separation.errors import InputError
from separation.model.features import Mixture, Stft
from separation.model.joint_batch_norm import JointBatchNorm
from separation.model.losses import MaskInferenceLoss, WaveformLoss
from separation.model.outputs import output
from separation.model.separators import MaskSeparator, WaveformSeparator
from separation.runs.untrusted_files import check_targets

COMMAND = ["--config-dir=my_conf", "model=mine", "data=tones", "clip=twice_the_mean", "allow=[my_package]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of docs/extending.md in an empty folder."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert {name.split("/")[0] for name, _ in blocks} == {"my_package", "my_conf"} and len(blocks) == 7
    for name, code in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        assert path.suffix != ".py" or len(code.strip().splitlines()) <= 30
    return tmp_path


@pytest.mark.slow
def test_the_examples_train_score_separate_and_resume(project):
    arguments = [*COMMAND, "trainer.max_steps=4", "trainer.batch_size=2", "trainer.excerpt_frames=50", "run_dir=run"]
    arguments += ["data.store=store", "evaluation.num_audio=1"]
    result = run_program("train.py", *arguments, cwd=project)
    assert result.returncode == 0, result.stderr
    assert "\nallow:" not in (project / "run/config.yaml").read_text()
    scores = (project / "run/scores.csv").read_bytes()
    refused = run_program("evaluate.py", "run=run", cwd=project)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "_target_=my_package.corpora.Tones" in refused.stderr and "needs allow=[my_package]" in refused.stderr
    result = run_program("evaluate.py", "run=run", "allow=[my_package]", "output=again", cwd=project)
    assert result.returncode == 0, result.stderr
    assert (project / "again/scores.csv").read_bytes() == scores
    recording = next((project / "run/audio").rglob("mixture.wav"))
    result = run_program("scripts/export_nussl.py", "run=run", "output=model.pth", "allow=[my_package]", cwd=project)
    assert result.returncode == 1 and "Convolutions, isn't made of nussl's modules" in result.stderr
    result = run_program("separate.py", "run=run", f"input={recording}", "allow=[my_package]", cwd=project)
    assert result.returncode == 0 and len(list((project / "separated").iterdir())) == 2, result.stderr
    resumed = [*arguments, "trainer.max_steps=6", "trainer.resume=true"]
    result = run_program("train.py", *resumed, cwd=project)
    assert result.returncode == 0, result.stderr
    with open(project / "run/steps.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5", "6"]
    shutil.rmtree(project / "my_package")
    result = run_program("evaluate.py", "run=run", "allow=[my_package]", cwd=project)
    assert result.returncode == 1
    assert "can't be imported (No module named 'my_package'); is my_package in this folder" in result.stderr


def test_batches_that_are_normalised_between_layers_need_one_process():
    inner = JointBatchNorm(torch.nn.BatchNorm1d(3))
    with pytest.raises(InputError, match="model.network: it normalises batches between its layers"):
        inner(torch.randn(2, 3, 4, requires_grad=True))


def test_what_may_be_named(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (project / "my_package/others.py").write_text("from os import system\nvalue = 3\nraise_ = None\n")
    (project / "my_package/broken.py").write_text("1 / 0\n")
    config = compose_config("config", [])
    for key, target, allow, message in (
        (
            "model.loss",
            "my_package.losses.CompressedLoss",
            [],
            "a class of your own needs allow=.my_package. on the comm",
        ),
        (
            "model.loss",
            "my_package.others.system",
            ["my_package"],
            "expected a class or function that my_package defines",
        ),
        (
            "model.loss",
            "my_package.others.value",
            ["my_package"],
            "expected a class or function that my_package defines",
        ),
        ("model.loss", "my_package.nothing.X", ["my_package"], "can't be imported"),
        (
            "model.loss",
            "my_package.losses.Compresed",
            ["my_package"],
            "no Compresed; its classes are Compr",
        ),
        ("model.loss", "my_package.broken.X", ["my_package"], "can't be imported .*division by zero"),
        ("trainer", "my_package.losses.CompressedLoss", ["my_package"], "expected a choice of separation.training"),
        ("model.loss", "os.system", ["my_package"], "a class of your own needs allow=.os."),
        ("model.loss", "os.system", "os; rm", "allow=os; rm: expected packages' names, as in allow=.my_package."),
        ("model.loss", "os.system", ["a.b"], "expected packages' names"),
    ):
        changed = config.copy()
        node = changed.trainer if key == "trainer" else changed.model.loss
        node._target_ = target
        with pytest.raises(InputError, match=message):
            check_targets(changed, allow)
    config.model.loss._target_ = "my_package.losses.CompressedLoss"
    check_targets(config, ["my_package"])


STFT = Stft()
MIXTURE = Mixture(torch.randn(2, 640, generator=torch.Generator().manual_seed(0)), STFT)


@pytest.mark.parametrize(
    ("outputs", "name", "message"),
    [
        (
            torch.ones(2),
            "mask",
            "model.network: returns Tensor; expected a dictionary of tensors, of mask, embedding, wav",
        ),
        ({"mask": 3}, "mask", "model.network: returns dict; expected a dictionary of tensors"),
        ({}, "mask", "model.network: returns nothing; expected at least one of mask, embedding, waveform"),
        ({"waveform": torch.ones(2, 2, 640)}, "mask", "needs a network with the output mask; this one has waveform"),
        (
            {"mask": torch.ones(2, 129, 11, 2)},
            "mask",
            r"its mask has shape \(2, 129, 11, 2\); expected \(batch, frame, frequency, source\) for a mixture of shape"
            r" \(2, 11, 129\)",
        ),
        (
            {"waveform": torch.ones(2, 640)},
            "waveform",
            r"its waveform has shape \(2, 640\); expected \(batch, source, t",
        ),
        ({"waveform": torch.ones(2, 2, 600)}, "waveform", r"its waveform has shape \(2, 2, 600\)"),
    ],
)
def test_outputs_that_do_not_fit_are_named(outputs, name, message):
    with pytest.raises(InputError, match=message):
        output(outputs, name, MIXTURE, "model.loss")


def test_the_number_of_sources_is_compared():
    from separation.model.features import features

    feats = features(torch.randn(1, 2, 640), STFT)
    with pytest.raises(InputError, match="model.num_sources=3: the mixtures have 2 sources"):
        MaskInferenceLoss()({"mask": torch.rand(1, 11, 129, 3)}, feats)
    with pytest.raises(InputError, match="model.num_sources=3: the mixtures have 2 sources"):
        WaveformLoss()({"waveform": torch.rand(1, 3, 640)}, feats)


def test_a_waveforms_complex_masks_give_it_back():
    outputs = {"waveform": torch.randn(2, 3, 640, generator=torch.Generator().manual_seed(1))}
    masks = WaveformSeparator().masks(outputs, MIXTURE)
    again = STFT.inverse((masks * MIXTURE.spectrum.unsqueeze(-1)).permute(0, 3, 1, 2), 640)
    torch.testing.assert_close(again, outputs["waveform"], atol=1e-5, rtol=1e-5)
    lengths = torch.tensor([640, 500])
    padded = Mixture(MIXTURE.waveform, STFT, lengths)
    estimates = WaveformSeparator().waveforms(outputs, padded)
    assert torch.equal(estimates[0], outputs["waveform"][0]) and torch.equal(
        estimates[1, :, :500], outputs["waveform"][1, :, :500]
    )
    assert not estimates[1, :, 500:].any()
    silence = Mixture(torch.zeros(1, 640), STFT)
    assert WaveformSeparator().masks({"waveform": torch.zeros(1, 2, 640)}, silence).isfinite().all()
    assert MaskSeparator().waveforms({"mask": torch.ones(1, 11, 129, 2)}, silence).isfinite().all()
