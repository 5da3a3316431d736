"""A preview as one HTML file: each new candidate beside its variation, with what the model was told and answered."""

from __future__ import annotations

from markupsafe import Markup

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import Section, View
from pe_beam.driver.preview import Preview, Shown
from pe_beam.report import page as pages
from pe_beam.report.html import details, facts, join, number, tag
from pe_beam.report.plain import view_of

_CSS = """
.pairs { display: grid; gap: 1rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, SIDE), 1fr)); }
.pairs > div { min-width: 0; }
.pairs h4 { margin-bottom: .4rem; }
.pairs pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.pairs .shown { max-width: TILE; }
"""


def page_of(preview: Preview, modality: Modality) -> bytes:
    """Returns the page, self-contained. Equal previews give equal bytes."""
    view = view_of(modality)
    pairs = zip(preview.made, preview.varied, strict=True)
    body = join(_pair(view, made, varied) for made, varied in pairs)
    sections = [Section(key="candidates", title="New, and varied once", body=body)]
    notes = join(tag("p", note, class_="note") for note in preview.notes)
    lead = "Candidates as a run would make them. No private data were read, and nothing of the budget was spent."
    hero = tag("div", join([tag("p", lead, class_="lead"), facts(_facts(preview)), notes]), class_="words")
    return pages.render(
        pages.Page(
            title=preview.name,
            kicker="Preview, before a run",
            hero=hero,
            sections=sections,
            css=pages.script("report.css") + view.css() + _css(tile=view.tile),
        )
    )


def _css(*, tile: bool) -> str:
    """Returns the style of pairs: pictures side by side on a phone too, texts and rows with more room."""
    return _CSS.replace("SIDE", "9rem" if tile else "19rem").replace("TILE", "12rem" if tile else "none")


def _facts(preview: Preview) -> list[tuple[object, object]]:
    listed: list[tuple[object, object]] = [
        ("Equal to an earlier one", f"{preview.duplicates} of {len(preview.made)}"),
        ("Variations without a change", f"{preview.unchanged} of {len(preview.varied)}"),
        ("Distance between new ones", "unknown" if preview.spread is None else f"{preview.spread:.4g}"),
        ("Distance to the parent", "unknown" if preview.moved is None else f"{preview.moved:.4g}"),
        ("Candidates of a whole run", number(preview.calls, 0)),
    ]
    costs = preview.costs
    if costs is not None and costs.money is not None:
        listed.append(("Money for a whole run, at most", f"{costs.money:.2f} {costs.currency}"))
    return listed


def _pair(view: View, made: Shown, varied: Shown) -> Markup:
    label = made.record["label"]
    head = f"Candidate {made.record['candidate_id']}" + ("" if label is None else f", label {label}")
    sides = [
        _side(view, "New", made, "nearest other: candidate {}, at {:.4g}"),
        _side(view, "Varied", varied, "from its parent: {1:.4g}"),
    ]
    return join([tag("h3", head), tag("div", join(sides), class_="pairs")])


def _side(view: View, head: str, shown: Shown, near: str) -> Markup:
    parts = [tag("h4", head), tag("div", view.fragment(shown.record, large=True), class_="shown")]
    if shown.fault is not None:
        parts.append(tag("p", f"cannot be embedded: {shown.fault}", class_="note"))
    elif shown.nearest is not None:
        parts.append(tag("p", near.format(*shown.nearest), class_="muted small"))
    for each in shown.exchanges:
        said = [tag("h5", "Asked"), tag("pre", _whole(each.prompt))]
        if each.answer is not None:
            said += [tag("h5", "Answered"), tag("pre", _whole(each.answer))]
        parts.append(details("Prompt" if each.answer is None else "Prompt and answer", join(said)))
    return tag("div", join(parts))


def _whole(text: str) -> str:
    """Returns a text with another sign for halves of signs, which a raw answer may hold and no page can."""
    return text.encode("utf-8", "replace").decode("utf-8")
