"""The documentation site: it builds without a warning, its links lead somewhere, and every public name is there.

A handful of its pages are looked at in headless Chromium: no request to another host, no complaint, accessible.
"""

from __future__ import annotations

import functools
import http.server
import importlib
import inspect
import os
import posixpath
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = ("pe_beam", "pe_beam.contracts", "pe_beam.callbacks", "pe_beam.testing", "pe_beam.errors")
WIDTHS = (390, 1440)
SCHEMES = {"light": "default", "dark": "slate"}
"""Scheme of the system -> what the theme calls it."""
LOOKED_AT = {
    "index.html": (390, "light"),
    "privacy.html": (1440, "dark"),
    "api/callbacks.html": (390, "dark"),
    "notebooks/tables.html": (1440, "light"),
    "coming-from-dpsda.html": (1440, "dark"),
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert not done.returncode and "WARNING" not in done.stderr, done.stderr[-3000:]  # --quiet would let them pass
    return folder


@functools.cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r'\bid="([^"]+)"', read(path)))


def test_links_lead_to_pages_and_anchors(site: Path) -> None:
    broken = []
    for page in site.rglob("*.html"):
        for link in set(re.findall(r'\b(?:href|src)="([^"]*)"', read(page))):
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", path) or page.name == "404.html":
                continue
            target = Path(posixpath.normpath(page.parent / path)) if path else page
            if not target.exists() or (anchor and target.suffix == ".html" and anchor not in anchors(target)):
                broken.append((str(page.relative_to(site)), link))
    assert not broken


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r'<(?:script|link|img|iframe)[^>]+\b(?:src|href)="?(?:https?:)?//', read(page)), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import) *[\"']?(?:https?:)?//", read(sheet)), sheet


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_documented(site: Path, module: str) -> None:
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None) or [
        name for name, kind in vars(home).items() if inspect.isclass(kind) and kind.__module__ == module
    ]
    # After its heading, which has its name as an anchor, each has its signature, and what its docstring says.
    reference = "".join(read(page) for page in sorted((site / "api").glob("*.html")))
    parts = {part.partition('"')[0]: part for part in re.split(r'<h\d id="', reference)}
    assert len(names) >= 4
    assert not [name for name in names if "<p>" not in parts.get(f"{module}.{name}", "")]


def test_shipped_recipes_are_on_their_page(site: Path) -> None:
    page = read(site / "recipes.html")
    for recipe in (ROOT / "templates/recipes").glob("*.yaml"):
        assert f'"code/templates/recipes/{recipe.name}.html"' in page
        assert (site / f"code/templates/recipes/{recipe.name}.html").exists()


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(("page_name", "looked_at"), LOOKED_AT.items())
def test_pages_are_accessible_and_ask_nothing_of_other_hosts(
    browser: Any,
    served: str,
    page_name: str,
    looked_at: tuple[int, str],
) -> None:
    """At each width and in each scheme; by axe, which takes a second, in one of these four a page."""
    from axe_playwright_python.sync_playwright import Axe

    asked: list[str] = []
    said: list[str] = []
    for width in WIDTHS:
        context = browser.new_context(viewport={"width": width, "height": 900})
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(served + page_name)
        for scheme, shown in SCHEMES.items():
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(f"document.body.dataset.mdColorScheme === '{shown}'")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            if (width, scheme) == looked_at:
                found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
                assert not [(v["id"], v["help"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]
        context.close()
    assert not said
    assert asked and not [url for url in asked if not url.startswith((served, "data:"))]
