"""The layers of the package: imports point one way only."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "separation"
LAYERS = (
    ["errors", "compat"],
    ["runs"],
    ["data"],
    ["model"],
    ["training"],
    ["evaluation"],
    ["studies"],
    ["report"],
    ["app"],
    ["__init__"],
)
"""From the bottom up; the last is what `import separation` offers. A part may import from those below its own, and a
folder within itself. A folder's `__main__.py` is a program, which nothing imports, so it may import from all."""
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
    assert modules == set(LEVEL)
    for path in PACKAGE.rglob("*.py"):
        if path.name == "__main__.py":
            continue
        name = part_of(path)
        for other in imported(path) - {name}:
            assert LEVEL[other] < LEVEL[name], f"{path.name} imports separation.{other}, which lies above it"
