"""The documents name files that exist, and commands whose settings exist."""

import re
import shlex
import sys
from collections.abc import Iterator

import pytest
import yaml
from conftest import ROOT

from separation.app.settings import compose_config, split_overrides
from separation.studies.__main__ import parser

sys.path.insert(0, str(ROOT / "scripts"))
import api_reference

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "gradclip/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "gradclip/docs").glob("*.md")),
]
MADE_UP = ("mine", "GROUP")
"""What is in the place of a name that the reader chooses."""
PLACES = ("separation/", "gradclip/", "scripts/", "benchmarks/", "recipes/", "conf/", "docs/", "notebooks/", "tests/")


def code(text: str) -> list[str]:
    """The lines of a page's bash blocks, and its code spans."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [*"".join(blocks).splitlines(), *(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)):
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page.name}: {target}#{anchor}"
    if page.name != "CHANGELOG.md":  # which names what is gone
        for path in re.findall(r"(?<![\w./~-])(?:[\w.-]+/)+[\w.*-]*", " ".join(code(text))):
            if path.startswith(PLACES) and not any(word in path for word in MADE_UP):
                below = page.parent if page.parent.name == "gradclip" else ROOT
                assert list(below.glob(path.rstrip("/"))) or list(ROOT.glob(path.rstrip("/"))), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_have_settings_that_exist(page):
    for line in code(page.read_text(encoding="utf-8")):
        program, *arguments = shlex.split(line, comments=True) if line.startswith("python ") else [""]
        if arguments[:2] == ["-m", "separation.studies"] and "{" not in line:
            parser().parse_args(arguments[2:])
        if (
            program != "python"
            or "..." in line
            or "--config-dir" in line
            or arguments[0] not in ("train.py", "evaluate.py", "separate.py")
        ):
            continue
        name, *given = arguments
        given = [
            item.split(",")[0] for item in given if not item.startswith(("--", "hydra")) and "interval(" not in item
        ]
        if name == "train.py":
            compose_config("config", given)
        elif name == "separate.py":
            compose_config("separate", given)
        else:
            _, overrides = split_overrides(given, "evaluate")
            compose_config("config", overrides)


def test_the_reference_is_that_of_the_docstrings():
    remedy = "run python scripts/api_reference.py"
    assert api_reference.OUTPUT.read_text(encoding="utf-8") == api_reference.reference(), remedy


def leaves(navigation: object) -> Iterator[str]:
    """The pages of a site's navigation."""
    if isinstance(navigation, str):
        yield navigation
    else:
        for item in navigation.values() if isinstance(navigation, dict) else navigation:
            yield from leaves(item)


def test_the_site_has_every_page_and_notebook():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    notebooks = [path.with_suffix(".md") for path in (ROOT / "notebooks").glob("*.ipynb")]
    pages = [path.relative_to(ROOT).as_posix() for path in [*PAGES, *notebooks, ROOT / "gradclip/CHANGELOG.md"]]
    assert sorted(leaves(site["nav"])) == sorted(pages)
