"""The page itself: a frame that its script fills with what the server tells."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from markupsafe import Markup

from pe_beam.contracts.view import Section
from pe_beam.report import page as pages
from pe_beam.report.html import tag

NOT_PRIVATE = "NOT PRIVATE"
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The policy of every answer. The page's own is narrower: of scripts it allows one, by its hash."""

_PUBLIC = Markup('<span class="who public">public</span>')
_HOLDER = Markup('<span class="who holder">for the holder</span>')


def page(state: dict[str, Any]) -> bytes:
    """Returns the page, with a state to begin with.

    Args:
      state: JSON data of `Site.state`.
    """
    unprotected = _is_unprotected(state)
    return pages.render(
        pages.Page(
            title=_title(state),
            kicker="pe-beam watch",
            hero=_hero(),
            sections=[_progress(), _now(), _gallery(), _family()],
            mark=NOT_PRIVATE if unprotected else "",
            mark_text="No promise is made: treat this page as the private data themselves." if unprotected else "",
            foot=_foot(),
            css=pages.script("report.css") + _resource("watch.css"),
            script=_resource("watch.js"),
            data=json.dumps(state | {"marked": unprotected}, allow_nan=False),
            asks_itself=True,
        )
    )


def _title(state: dict[str, Any]) -> str:
    return str(state.get("public", {}).get("name", "Waiting for a run"))


def _is_unprotected(state: dict[str, Any]) -> bool:
    return state.get("private") is False or state.get("run", {}).get("private") is False


def _hero() -> Markup:
    switch = Markup('<label class="switch"><input type="checkbox" id="public-only"> Show only what is public</label>')
    return Markup(
        '<div id="trouble" class="note" role="alert" hidden></div>'
        '<p class="lead" id="standing" aria-live="polite"></p>'
        '<div id="bar" role="img" aria-label=""></div>'
        '<nav id="windows" aria-label="Windows of the stream" hidden></nav>{}'
        '<noscript><p class="note">This page follows a run by its script, and needs JavaScript.</p></noscript>'
    ).format(switch)


def _progress() -> Section:
    note = tag("p", "", id="public-note", class_="muted small")
    body = Markup('<p>{}</p>{}<dl class="facts" id="public"></dl><div id="rounds"></div>').format(_PUBLIC, note)
    return Section(key="progress", title="What is released", body=body)


def _now() -> Section:
    note = (
        "From the status of the run directory. Durations tell how many private records there are: this part is for who "
        "holds them."
    )
    body = Markup('<p>{}</p><p class="muted small">{}</p><dl class="facts" id="holder"></dl><div id="times"></div>')
    return Section(key="now", title="At work", body=body.format(_HOLDER, note))


def _gallery() -> Section:
    controls = Markup(
        '<div class="controls"><label>Population <select id="population"></select></label>'
        '<label>Order <select id="order"><option value="id">as made</option>'
        '<option value="votes">most noisy votes first</option></select></label>'
        '<label class="switch"><input type="checkbox" id="newest" checked> Go on to the newest</label></div>'
    )
    body = Markup('<p>{}</p>{}<p id="gallery-note" class="muted small" aria-live="polite"></p><div id="shown"></div>')
    return Section(key="gallery", title="The gallery", body=body.format(_PUBLIC, controls))


def _family() -> Section:
    note = "Choose a candidate in the gallery. Arrow keys lead on: left and right to parent and child, up and down to "
    note += "siblings."
    body = Markup('<p>{}</p><p class="muted small">{}</p><div id="family"></div>')
    return Section(key="lineage", title="The family tree", body=body.format(_PUBLIC, note))


def _foot() -> Markup:
    return tag(
        "p",
        "Served by pe-beam watch on this machine alone. What is marked public is in the release, or follows from the "
        "recipe that the release shows; when it appeared here is not public, so do not share the screen while a run is "
        "at work. The address of this page has its key in it: do not share that either.",
    )


def _resource(name: str) -> str:
    return resources.files("pe_beam.watch").joinpath("page", name).read_text(encoding="utf-8")
