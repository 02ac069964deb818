"""The layers of the package: imports point one way only."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "separation"
LAYERS = [
    ["errors", "compat"],
    ["atomic", "interruption"],
    ["clip", "assignment", "provenance"],
    ["data"],
    ["features", "run_folder", "metrics", "processes", "progress", "inspection"],
    ["losses", "clustering", "models", "bss_eval", "checking"],
    ["separators", "checkpoint", "logs", "training_step"],
    ["training_state", "evaluation", "cuda_graph"],
    ["dynamics"],
    ["trainer"],
    ["results", "plots", "assembly", "statistics"],
    ["collection", "dynamics_plots", "check_report"],
    ["scoring", "recordings", "cli", "table1", "comparison", "curves"],
    ["scale_comparison", "conditions"],
    ["comparison_plots"],
    ["sweeps"],
]
"""From the bottom up. A module may import from layers below its own, and a package within itself."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def part_of(path: Path) -> str:
    """The module or sub-package of `separation` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Top-level names of `separation` that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "separation":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("separation."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("separation.")}
    return names


def test_imports_point_downwards():
    modules = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert modules - {"__init__"} == set(LEVEL)
    for path in PACKAGE.rglob("*.py"):
        name = part_of(path)
        for other in imported(path) - {name}:
            assert LEVEL[other] < LEVEL[name], f"{path.name} imports separation.{other}, which lies above it"


def test_the_clipping_library_needs_torch_and_numpy_only():
    code = (
        "import sys; import separation.clip, torch, numpy;"
        "print({m.split('.')[0] for m in sys.modules if m.startswith('separation')"
        " and not m.startswith('separation.clip')} - {'separation'},"
        " {'nussl', 'hydra', 'torchaudio', 'museval', 'pandas', 'soundfile', 'omegaconf'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["set()", "set()"]
    outside = [name for path in (PACKAGE / "clip").rglob("*.py") for name in imported(path) - {"clip"}]
    assert outside == []
