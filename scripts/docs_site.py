"""MkDocs hooks of `make docs`: the repository's own pages become the site's, at the paths that they have.

Beside them go what they link to (figures, tables and audio as they are; source files and folders as pages), the
notebooks as pages, and the reference of `separation` from its docstrings.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbconvert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/*.md", "gradclip/*.md", "gradclip/docs/*.md")
SOURCES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".cff": "yaml", "": "text"}
"""Suffixes of files that become pages, and the languages that color them."""
AUDIO_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+\.flac)\)")
LINK = re.compile(r"(?<=\]\()([^)#\s]+)")


def on_config(config: MkDocsConfig) -> None:
    """Adds the reference of `separation`, a page a folder, to the navigation; gives headings the anchors of GitHub."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    [reference] = [section["Reference"] for section in config.nav or [] if "Reference" in section]
    reference += [{f"separation.{name}": f"reference/{name}.md"} for name in packages()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the files of `docs_dir` by the site's."""
    for file in files.documentation_pages():
        files.remove(file)
    pages = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for glob in PAGES for path in ROOT.glob(glob)}
    pages |= {f"reference/{name}.md": reference(name) for name in packages()}
    for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = notebook_page(notebook, files, config)
    linked = {name for page, text in pages.items() for name in repository_files(page, text)} - set(pages)
    for name in sorted(linked | {file for folder in linked for file in inside(folder)}):
        if is_source(name):
            pages[f"{name}.md"] = source_page(name)
        elif not name.endswith(".ipynb"):
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, text in pages.items():
        level = InclusionLevel.NOT_IN_NAV if is_source(name.removesuffix(".md")) else InclusionLevel.UNDEFINED
        files.append(File.generated(config, name, content=text, inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points links at the pages of source files and notebooks, and makes players of links to audio."""
    here = posixpath.dirname(page.file.src_uri)

    def target(link: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(here, link[1]))
        if name.endswith(".ipynb"):
            return link[1].removesuffix(".ipynb") + ".md"
        return f"{link[1].rstrip('/')}.md" if is_source(name) else link[1]

    def player(link: re.Match[str]) -> str:
        name = Path(link[1]).stem.replace("_", " ")
        return f'<audio controls preload="metadata" src="{link[1]}" aria-label="{name}"></audio>'

    if not here:
        page.meta["hide"] = ["navigation"]  # which would be one line
    return LINK.sub(target, AUDIO_LINK.sub(player, markdown))


def packages() -> list[str]:
    """The folders of `separation`."""
    return sorted(path.parent.name for path in ROOT.glob("separation/*/__init__.py"))


def reference(package: str) -> str:
    """A page that mkdocstrings fills with a package's modules."""
    files = sorted((ROOT / "separation" / package).rglob("*.py"))
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files if path.stem[0] != "_"]
    return "\n\n".join([f"# separation.{package}", *(f"::: {name}" for name in modules)])


def notebook_page(path: Path, files: Files, config: MkDocsConfig) -> str:
    """A notebook as Markdown; its figures become files beside it."""
    resources = {"output_files_dir": path.stem}
    text, resources = nbconvert.MarkdownExporter().from_filename(str(path), resources)
    for name, content in resources["outputs"].items():
        files.append(File.generated(config, f"notebooks/{name}", content=content))
    return text


def repository_files(page: str, text: str) -> Iterator[str]:
    """The files and folders of the repository that a page links to."""
    for link in LINK.findall(text):
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        if "://" not in link and (ROOT / name).exists():
            yield name


def inside(name: str) -> list[str]:
    """The files of a folder."""
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / name).glob("*.py"))]


def is_source(name: str) -> bool:
    """Whether a file or folder becomes a page."""
    path = ROOT / name
    return path.is_dir() or (path.is_file() and path.suffix in SOURCES)


def source_page(name: str) -> str:
    """A file's text, or links to a folder's files."""
    path = ROOT / name
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n"
    if path.is_dir():
        links = (f"- [{Path(inner).name}]({path.name}/{Path(inner).name})" for inner in inside(name))
        return head + "\n".join(links)
    return f"{head}````{SOURCES[path.suffix]}\n{path.read_text('utf-8')}\n````"
