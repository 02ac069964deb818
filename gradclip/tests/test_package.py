"""What the package as a whole promises: it needs torch alone, and every strategy can be imported from the top."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import gradclip

WITHOUT_ANYTHING_ELSE = """
import inspect, sys
sys.path.insert(0, sys.argv[1])
sys.modules.update(dict.fromkeys(["numpy", "accelerate", "ignite", "lightning", "transformers"]))  # can't be imported
import torch
before = set(sys.modules)
import gradclip
added = {name.partition(".")[0] for name in set(sys.modules) - before}
assert added <= {"gradclip"} | sys.stdlib_module_names, added

arguments = {
    "ValueClip": [1],
    "ErrorFeedback": [1, 2],
    "Chain": [[gradclip.SkipSpikes(), gradclip.AutoClip()]],
    "SkipAbove": [1],
}
model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
for name in gradclip.__all__:
    strategy = getattr(gradclip, name)
    if issubclass(strategy, gradclip.Clipper) and not inspect.isabstract(strategy):
        clipper = strategy(*arguments.get(name, []))
        for scale in (1, 2, 3):
            model.zero_grad()
            loss = scale * model(torch.ones(1, 2)).sum()
            loss.backward()
            clipper.observe_loss(loss)
            assert clipper.clip_(model.named_parameters()).grad_norm > 0
        clipper.load_state_dict(clipper.state_dict())
        print(name)
"""


def strategies() -> set[str]:
    """Names of the strategies' classes, wherever in the package they are defined."""
    names = set()
    for module in pkgutil.iter_modules(gradclip.__path__, "gradclip."):
        if not module.ispkg:
            for name, value in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(value) and issubclass(value, gradclip.Clipper) and not inspect.isabstract(value):
                    names.add(name)
    return names


def test_every_strategy_is_exported():
    assert len(strategies()) == 19
    assert strategies() <= set(gradclip.__all__)
    assert all(hasattr(gradclip, name) for name in gradclip.__all__)


def test_torch_alone_is_needed():
    root = str(Path(gradclip.__file__).parents[1])
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_ANYTHING_ELSE, root]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) == strategies()
