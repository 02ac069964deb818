"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

from test_package import strategies

README = Path(__file__).parent.parent / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"batches": [(torch.randn(4, 8), torch.randn(4, 1)) for _ in range(20)]}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(block, names)
    assert len(names["clipper"].history) == 21
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(names["attachment"].result)
    assert lines[1].startswith("{'train/grad_norm': ") and " 21 <AutoClip(p=10.0, " in lines[2]


def test_every_strategy_has_a_line():
    rows = re.findall(r"^\| `(\w+)", README.read_text(), re.MULTILINE)
    assert set(rows) == strategies() and len(rows) == len(strategies())
