"""What the documentation site adds to the pages of docs/: the repository's other pages, and the files that pages name.

Pages link to each other, to README.md and to files and folders of the repository by relative path, as GitHub wants it.
On the site README.md is the start page, and each other file or folder that a page links to is a page below `code/`.
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Pages of the repository that lie outside docs/, and where the site has them."""

_LINK = re.compile(r"(```.*?^ *```|`[^`\n]+`)|\]\(([^)\s#]+)(#[^)\s]*)?\)", re.DOTALL | re.MULTILINE)
_LANGUAGES = {
    ".ipynb": "json",
    ".py": "python",
    ".yaml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".cff": "yaml",
    ".xml": "xml",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside docs/, and a page for each file and folder that a page links to."""
    for place, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / place).read_text(encoding="utf-8")))
    for notebook in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        shown = _notebook(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=shown))
    wanted = {place for file in files.documentation_pages() for place in _places(file.src_uri, file.content_string)}
    for place in sorted(_with_content(wanted)):
        files.append(File.generated(config, _code_page(place), content=_shown(place)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the page with links that lead to pages of the site."""
    here = page.file.src_uri
    if here.startswith("code/"):
        return markdown

    def lead(place: str) -> str:
        target = _page_of(place)
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    return _relinked(here, markdown, lead)


def on_page_content(html: str, **_: object) -> str:
    """Returns the page without empty heads of columns, which screen readers would announce."""
    return html.replace("<th></th>", "<td></td>")


def _notebook(notebook: dict[str, Any]) -> str:
    """Returns a notebook as a page: its texts, its code, and below each cell what it has shown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    found = output.get("data", {"text/plain": output.get("text", [])})
    if "text/html" in found:
        html = "".join(found["text/html"]).replace("\n", "").replace("<th></th>", "<td></td>")
        return f'<div class="output">{html}</div>'
    if "image/png" in found:
        source = f"data:image/png;base64,{found['image/png']}"
        return f'<div class="output"><img alt="what the cell shows" src="{source}"></div>'
    return "```text\n" + "".join(found["text/plain"]).rstrip() + "\n```"


def _places(here: str, markdown: str) -> set[str]:
    found: set[str] = set()

    def note(place: str) -> str:
        found.add(place)
        return place

    _relinked(here, markdown, note)
    return {place for place in found if _page_of(place).startswith("code/")}


def _relinked(here: str, markdown: str, lead: Callable[[str], str]) -> str:
    """Returns a page whose links to the repository are what `lead` makes of their paths there; code stays as it is."""
    home = posixpath.dirname(_repository_path(here))

    def relinked(found: re.Match[str]) -> str:
        code, target, anchor = found.groups()
        if code is not None or target is None or "://" in target or target.startswith("mailto:"):
            return found[0]
        place = posixpath.normpath(posixpath.join(home, target))
        if not (ROOT / place).exists():
            return found[0]  # MkDocs itself says so
        return f"]({lead(place)}{anchor or ''})"

    return _LINK.sub(relinked, markdown)


def _repository_path(page: str) -> str:
    outside = {site: place for place, site in PAGES.items()}
    own = page.removesuffix(".md") + ".ipynb" if page.startswith("notebooks/") else page
    return outside.get(page, f"docs/{own}")


def _page_of(place: str) -> str:
    """Returns the page or the file of the site that shows a path of the repository."""
    if place in PAGES:
        return PAGES[place]
    if place.startswith("docs/notebooks/") and place.endswith(".ipynb"):
        return place.removeprefix("docs/").removesuffix(".ipynb") + ".md"
    if place.startswith("docs/") and posixpath.splitext(place)[1] in (".md", ".png", ".svg"):
        return place.removeprefix("docs/")
    return _code_page(place)


def _code_page(place: str) -> str:
    return f"code/{place}.md"


def _with_content(places: Iterable[str]) -> set[str]:
    """Returns the places and, of folders, the files directly in them, that have no other page."""
    every = {file for place in places for file in (place, *_files_of(place))}
    return {place for place in every if _page_of(place).startswith("code/")}


@functools.cache
def _files_of(place: str) -> list[str]:
    folder = ROOT / place
    if not folder.is_dir():
        return []
    return sorted(f"{place}/{path.name}" for path in folder.iterdir() if path.suffix in _LANGUAGES)


def _shown(place: str) -> str:
    """Returns the page of a file or a folder: its content, or a list of its files."""
    if (ROOT / place).is_dir():
        home = posixpath.dirname(_code_page(place))
        inside = [
            f"- [{posixpath.basename(file)}]({posixpath.relpath(_page_of(file), home)})" for file in _files_of(place)
        ]
        return "\n".join([f"# {place}/", "", *inside, ""])
    content = (ROOT / place).read_text(encoding="utf-8")
    language = _LANGUAGES.get(Path(place).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {place}\n\n``````{language}\n{content}\n``````\n"
