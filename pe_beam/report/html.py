"""Makes small parts of HTML. All arguments are escaped, unless they are Markup already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

__all__ = ["Markup", "details", "facts", "figure", "join", "number", "table", "tag"]


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """Joins parts; each is escaped."""
    return Markup(separator).join(parts)  # type: ignore[arg-type]  # join escapes everything that is not Markup


def tag(name: str, content: object = "", **attributes: object) -> Markup:
    """Returns an element. `class_` means class, `aria_label` means aria-label. None leaves an attribute out.

    >>> tag("p", "a < b", class_="lead", title='"')
    Markup('<p class="lead" title="&#34;">a &lt; b</p>')
    """
    names = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    inside = join(Markup(' {}="{}"').format(Markup(key), value) for key, value in names.items())
    return Markup("<{}{}>{}</{}>").format(Markup(name), inside, content, Markup(name))


def number(value: float | None, digits: int = 1) -> str:
    """Formats a number for people: thousands separators, a real minus sign, no trailing zeros; "–" for None.

    >>> number(-1234.56), number(7.0), number(None)
    ('−1,234.6', '7', '–')
    """
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str) -> Markup:
    """Returns a data table in its own scroll box for narrow screens.

    Args:
      head: the names of the columns.
      rows: rows with one cell per column, the first one a heading. `number` formats numbers, aligned right.
      caption: the content of the table, shown and read by screen readers.
    """
    names = join(tag("th", name, scope="col") for name in head)
    body = join(tag("tr", join(_cells(row))) for row in rows)
    inside = Markup("<caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody>").format(caption, names, body)
    return tag("div", tag("table", inside), class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cells(row: Sequence[object]) -> Iterable[Markup]:
    for position, cell in enumerate(row):
        shown: Any = number(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else cell
        if position == 0:
            yield tag("th", shown, scope="row")
        else:
            yield tag("td", shown, class_=None if shown is cell else "n")


def details(summary: object, content: object, *, class_: str | None = None) -> Markup:
    """Returns content that a click opens, without a script."""
    kind = Markup(' class="{}"').format(class_) if class_ else Markup("")
    return Markup("<details{}><summary>{}</summary>{}</details>").format(kind, summary, content)


def figure(content: object, caption: object, *, data: Markup | None = None) -> Markup:
    """Returns a chart with its caption, and the same data as a table for readers who cannot see the chart."""
    more = details("The same as a table", data) if data is not None else ""
    return Markup("<figure>{}<figcaption>{}</figcaption>{}</figure>").format(content, caption, more)


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Returns names and values as a definition list."""
    inside = join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in pairs)
    return tag("dl", inside, class_="facts")
