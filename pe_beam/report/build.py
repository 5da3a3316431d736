"""Builds one HTML file from a release folder."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.store import Folder
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.privacy.statement import rounded_up
from pe_beam.report import page as pages
from pe_beam.report.galleries import Gallery, evolution_section, hero, samples_section
from pe_beam.report.history import History
from pe_beam.report.html import facts, join, number, tag
from pe_beam.report.lineage import MOST_NODES, Lineage
from pe_beam.report.outcome import outcome_section, recipe_section
from pe_beam.report.plain import view_of
from pe_beam.report.promise import best_guess, promise_section
from pe_beam.report.tree import tree_data, tree_section
from pe_beam.report.votes import votes_section
from pe_beam.storage import open_folder

NOT_PRIVATE = "NOT PRIVATE"
_UNITS = {"record": "one record", "client": "all records of one client"}


def build(history: History, modality: Modality) -> bytes:
    """Returns the report of a release as one self-contained HTML file. The same release gives the same bytes.

    Args:
      history: the release. Nothing else is read.
      modality: the modality of the records. Its view shows them.
    """
    view = view_of(modality)
    lineage = Lineage(history, view.gallery_size, MOST_NODES if view.tile else MOST_NODES // 4)
    gallery = Gallery(lineage, view)
    sections = [promise_section(history), samples_section(gallery), evolution_section(gallery)]
    sections += view.sections(history)
    sections += [votes_section(lineage), tree_section(gallery), outcome_section(lineage), recipe_section(lineage)]
    head = _head(history, gallery)
    mark, text = _mark(history)
    return pages.render(
        pages.Page(
            title=history.recipe["name"],
            kicker="Synthetic data by Private Evolution",
            hero=head,
            sections=sections,
            mark=mark,
            mark_text=text,
            foot=_foot(history),
            css=pages.script("report.css") + view.css(),
            script=pages.script("report.js"),
            data=tree_data(gallery),
        )
    )


def _mark(history: History) -> tuple[str, str]:
    marks, texts = [], []
    if not history.private:
        marks.append(NOT_PRIVATE)
        why = "It starts from a release without a known promise" if history.noisy else "No noise was added"
        texts.append(f"{why}: treat this file as the private data themselves.")
    if not history.complete:
        marks.append("UNFINISHED")
        texts.append("The run goes on: this is its state after the iterations there are, and no release.")
    return " · ".join(marks), " ".join(texts)


def _head(history: History, gallery: Gallery) -> Markup:
    privacy = history.privacy
    if history.private:
        spent = spent_epsilon(history.spendings(history.rounds_spent), privacy["delta"])
        figure = Markup('<p class="eps"><span class="sym">ε</span> {} <span class="delta">δ {:g}</span></p>').format(
            rounded_up(spent, 3), privacy["delta"]
        )
    else:
        figure = Markup('<p class="eps none"><span class="sym">ε</span> ∞ <span class="delta">{}</span></p>').format(
            NOT_PRIVATE
        )
    listed = [
        ("Protected", _UNITS[privacy["unit"]] if history.private else "nothing"),
        ("Neighbours", privacy["adjacency"]),
        ("Synthetic records", number(history.size(history.last))),
        ("Iterations", f"{history.last} of {privacy['iterations']}" if not history.complete else privacy["iterations"]),
        ("Labels", "none" if history.labels == [None] else len(history.labels)),
        ("Generator", " + ".join(history.generators)),
    ]
    said = "Nothing protects the private records here."
    if history.private:
        whose, right = best_guess(history)
        said = f"The best guess at {whose} is right at most {right} of the time; a coin's, 50%."
    words = tag("div", join([figure, tag("p", said, class_="lead"), facts(listed)]), class_="words")
    return tag("div", words + hero(gallery), class_="head")


def _foot(history: History) -> Markup:
    said = (
        "Made by pe_beam from the release folder alone: no private record, exact count, time or path went into it. "
        if history.private
        else "Made by pe_beam from the release folder alone. "
    )
    return tag("p", said + "It is one file and asks for nothing from any network.")


def history_of(place: str | Path | Folder) -> History:
    """Reads a complete release at any place, with its own recipe.json and privacy.json."""
    import json

    folder = place if isinstance(place, Folder) else open_folder(place)
    recipe, privacy = (json.loads(folder.read(name)) for name in ("recipe.json", "privacy.json"))
    return History(folder, recipe, privacy)
