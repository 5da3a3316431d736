"""Draws a release as HTML for notebooks. Names, labels and records are untrusted: all of them are escaped."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pyarrow as pa
from markupsafe import Markup

from pe_beam.errors import PeBeamError
from pe_beam.releases.frames import decoded
from pe_beam.releases.privacy import Privacy

PICTURES = 24
ROWS = 8
_SIDE = 96  # pixels of a thumbnail
_LONGEST = 200  # characters of a cell
_MARK = '<p style="background:#b00020;color:#fff;padding:.3em .6em;font-weight:bold">{}</p>'


class Shown(Protocol):
    """What is drawn: a `Release`."""

    @property
    def complete(self) -> bool: ...  # noqa: D102
    @property
    def private(self) -> bool: ...  # noqa: D102
    @property
    def privacy(self) -> Privacy | None: ...  # noqa: D102
    @property
    def recipe(self) -> Mapping[str, Any] | None: ...  # noqa: D102
    @property
    def iterations(self) -> list[int]: ...  # noqa: D102
    def records(self) -> pa.Table: ...  # noqa: D102


def html(release: Shown) -> str:
    """Returns a release as HTML: its promise, how far it is, and its first pictures or rows. It causes no request.

    A file that cannot be read is said in it, for a notebook shows no error of a representation.
    """
    parts = [_guarded(part, release) for part in (_mark, _head, _statement, _records)]
    return str(Markup('<div class="pe-beam-release">{}</div>').format(Markup("").join(parts)))


def _guarded(part: Any, release: Shown) -> Markup:
    try:
        return Markup(part(release))
    except PeBeamError as error:
        return Markup("<p>{}</p>").format(str(error))


def _mark(release: Shown) -> Markup:
    if release.private:
        return Markup("")
    said = (release.recipe or {}).get("notice", "NOT PRIVATE")
    return Markup(_MARK).format(f"{said}; treat these as the private data themselves")


def _head(release: Shown) -> Markup:
    recipe, privacy, known = release.recipe or {}, release.privacy, release.iterations
    total = _total(recipe, privacy)
    done = max(len(known) - 1, 0)
    words = [f"iteration {done}" + (f" of {total}" if total is not None else "")]
    words += ["complete" if release.complete else "under way"]
    if privacy is not None and release.private:
        words = [f"ε {_shown(privacy['epsilon'])}, δ {privacy['delta']:g}", f"per {privacy['unit']}", *words]
        if not release.complete:
            words.append(f"ε spent so far {_shown(privacy['spent_epsilon'])}")
    bar = Markup('<progress value="{}" max="{}"></progress>').format(done, total) if total else Markup("")
    return Markup("<p><strong>{}</strong> · {} {}</p>").format(
        recipe.get("name", "release"), Markup(" · ").join(Markup.escape(word) for word in words), bar
    )


def _total(recipe: Mapping[str, Any], privacy: Privacy | None) -> int | None:
    if privacy is not None:
        return int(privacy["iterations"])
    evolution = recipe.get("evolution")
    found = evolution.get("iterations") if isinstance(evolution, Mapping) else None
    return found if isinstance(found, int) else None


def _shown(epsilon: float) -> str:
    """Returns an epsilon with three decimals, rounded up."""
    return "∞" if math.isinf(epsilon) else f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:g}"


def _statement(release: Shown) -> Markup:
    privacy = release.privacy
    if privacy is None:
        return Markup("<p>{}</p>").format("No privacy statement yet: the run is not complete.")
    return Markup("<p>{}</p>").format(privacy["statement"])


def _records(release: Shown) -> Markup:
    if not release.iterations:
        return Markup("<p>{}</p>").format("There is no population yet.")
    samples = release.records()
    if "image" in samples.column_names:
        return _pictures(samples.slice(0, PICTURES), len(samples))
    return _rows(samples.slice(0, ROWS), len(samples))


def _pictures(table: pa.Table, count: int) -> Markup:
    figure = Markup(
        '<figure style="display:inline-block;margin:2px;text-align:center">'
        '<img src="data:image/png;base64,{}" alt="{}" style="max-width:{}px"><figcaption>{}</figcaption></figure>'
    )
    figures = []
    for row in table.to_pylist():
        label = "" if row.get("label") is None else _cut(row["label"])
        figures.append(figure.format(_thumbnail(row["image"]), f"picture {label}".strip(), _SIDE, label))
    return Markup("<div>{}</div><p>{}</p>").format(Markup("").join(figures), f"{len(table)} of {count} pictures")


def _thumbnail(data: bytes) -> str:
    picture = decoded(data)
    picture.thumbnail((_SIDE, _SIDE))
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode("ascii")


def _rows(table: pa.Table, count: int) -> Markup:
    head = _joined("th", table.column_names)
    body = Markup("").join(Markup("<tr>{}</tr>").format(_joined("td", row.values())) for row in table.to_pylist())
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table><p>{}</p>").format(
        head, body, f"{len(table)} of {count} rows"
    )


def _joined(tag: str, values: Iterable[Any]) -> Markup:
    cell = Markup(f'<{tag} style="text-align:left">{{}}</{tag}>')
    return Markup("").join(cell.format(_cut(value)) for value in values)


def _cut(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
