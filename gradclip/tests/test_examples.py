"""The examples run as they stand and print what they promise."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
OUTPUTS = {
    "attached_amp": r"'grad_norm': .*\nclipped in \d\d% of 100 steps",
    "distributed_checkpoint": r"50 norms restored",
    "foreign_trainer": r"100 norms recorded, clipped in [1-9]\d% of the steps",
    "functional": r"step 100: loss 0\.0\d+, norm ",
    "muon_adamw": r"ClipResult.*\nclipped in \d\d% of 100 turns",
    "per_sample": r"weights 0\.12\d to 0\.12\d; ",
    "plain_loop": r"clipped in [5-9]\d% of the steps; error 0\.00",
    "resume": r"the same weights to the last bit: True",
    "train_accelerate": r"100 \{'train/grad_norm': .*\n50 norms restored",
    "train_huggingface": r"'clipped_fraction': .*\n(.*\n)*<AutoClip.*, 320 bytes>: clipped in \d\d% of the steps",
    "train_ignite": r"100 \{'train/grad_norm': .*'train/clipped_fraction': ",
    "train_lightning": r"train/grad_norm: .*\n(.*\n)*train/clipped_fraction: 0\.\d",
    "train_lightning_gan": r"train/discriminator/clipped_fraction: .*\n(.*\n)*train/generator/clipped_fraction: ",
}
"""What each prints, as a pattern."""
FRAMEWORKS = ("accelerate", "ignite", "lightning", "transformers")


def test_every_example_is_known_and_short():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(OUTPUTS)
    assert all(len(path.read_text().splitlines()) < 50 for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_an_example(name, tmp_path, monkeypatch, capsys):
    path = EXAMPLES / f"{name}.py"
    for framework in FRAMEWORKS:
        if re.search(rf"^(from|import) {framework}\b", path.read_text(), re.MULTILINE):
            pytest.importorskip(framework)
    if name == "train_huggingface":  # transformers imports torchaudio, even one that was built for another torch
        monkeypatch.setattr("transformers.utils.is_torchaudio_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runpy.run_path(str(path), run_name="__main__")
    assert re.search(OUTPUTS[name], capsys.readouterr().out)
