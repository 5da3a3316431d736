"""The frame of a page: one HTML file with its style and scripts. It makes no request; equal content gives equal bytes.

A view or another report (evaluation) fills it with sections. Colours are CSS variables that follow the reader's light
or dark setting: --paper, --card, --ink, --muted, --line, --accent, --accent-soft, --noise, --noise-soft, --danger and
--series-1 to --series-8. Available classes: `lead` (a paragraph in large type), `note` (a boxed remark), `grid`
(charts side by side), `tiles`, `blocks` (galleries), `facts`, `scroll` (a wide table), `muted`, `n` (a number).
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup

from pe_beam.contracts.view import Section


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole page.

    Attributes:
      title: title of the document, plain text.
      kicker: a few words above the title.
      hero: HTML below the title.
      sections: sections in order.
      mark: a clear warning at the top, at the foot and on every printed page, such as NOT PRIVATE; "" for none.
      mark_text: explanation of the warning.
      foot: HTML at the end.
      css: additional style.
      script: JavaScript. The page has to be usable without it.
      data: JSON text for the script, which reads it from the element `page-data`.
      asks_itself: whether the script may ask the server that the page is from (`pe-beam watch`); else it asks nobody.
    """

    title: str
    hero: Markup
    sections: Sequence[Section]
    kicker: str = ""
    mark: str = ""
    mark_text: str = ""
    foot: object = ""
    css: str = ""
    script: str = ""
    data: str = ""
    asks_itself: bool = False


def render(page: Page) -> bytes:
    """Returns the file as UTF-8.

    Its content security policy forbids every request (but those of `asks_itself`), and every script except the given
    one (by its hash).

    Raises:
      ValueError: two sections have the same key.
    """
    keys = [section.key for section in page.sections]
    if len(set(keys)) != len(keys):
        raise ValueError(f"sections: a key is used twice ({', '.join(keys)})")
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if page.script else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    ) + ("; connect-src 'self'" if page.asks_itself else "")
    text = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            policy=policy,
            style=Markup(_resource("style.css") + _closed(page.css, "style")),
            script=Markup(page.script),
            data=Markup(page.data.replace("<", "\\u003c")),
        )
    )
    return text.encode()


def _closed(css: str, element: str) -> str:
    """Escapes the end tag of `element` in raw text, so that the text cannot end its element."""
    return css.replace(f"</{element}", f"<\\/{element}")


def script(name: str) -> str:
    """Returns the text of a file of the folder `page`, a script or a style."""
    return _resource(name)


@functools.lru_cache(maxsize=1)
def _environment():  # type: ignore[no-untyped-def]  # jinja2 is imported when a page is made
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("pe_beam.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _resource(name: str) -> str:
    return resources.files("pe_beam.report").joinpath("page", name).read_text(encoding="utf-8")
