"""Shows synthetic records of the release and of every iteration, by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from pe_beam.contracts.makers import without_maker
from pe_beam.contracts.view import Section, View
from pe_beam.report.history import History
from pe_beam.report.html import details, join, number, tag
from pe_beam.report.lineage import Lineage, evenly
from pe_beam.wording import counted

_STRIPS, _STRIP_BLOCKS = 24, 4


@dataclass(frozen=True, eq=False)
class Gallery:
    """Draws records with links to their lineage.

    Attributes:
      lineage: the candidates that are shown, and their parents and children.
      view: the view of the modality.
    """

    lineage: Lineage
    view: View

    @property
    def history(self) -> History:
        """Returns the release."""
        return self.lineage.history

    @cached_property
    def _records(self) -> dict[int, dict[int, dict[str, Any]]]:
        """Returns the content of all shown candidates: iteration -> id -> record."""
        lineage = self.lineage
        rows: dict[int, set[int]] = {t: set() for t in self.history.iterations}
        for t in lineage.shown_iterations:
            rows[t].update(row for code in lineage.shown_codes for row in lineage.gallery(t, code))
        for t, row in lineage.nodes:
            rows[t].add(row)
        return {
            t: self.history.records(t, (int(lineage.generations[t].ids[r]) for r in own)) for t, own in rows.items()
        }

    def record(self, t: int, row: int) -> dict[str, Any]:
        """Returns one of the shown records."""
        return self._records[t][int(self.lineage.generations[t].ids[row])]

    def maker(self, t: int, row: int) -> str | None:
        """Returns the maker of one of the shown records, or None if the recipe has only one generator."""
        return without_maker(self.record(t, row)["state"])[0] if self.history.makers else None

    def parent(self, t: int, row: int) -> dict[str, Any] | None:
        """Returns the record that a node was varied from, or None if the node is random or was kept unchanged."""
        generation = self.lineage.generations[t]
        if t == 0 or generation.kept[row]:
            return None
        return self.record(t - 1, int(generation.parents[row]))

    def label(self, code: int) -> str:
        """Returns the text that is shown for a label."""
        label = self.history.labels[code]
        return "all records" if label is None else str(label)

    def link(self, t: int, row: int, shown: Markup) -> Markup:
        """Puts a shown candidate into a link to its lineage if it is a node. Marks candidates with children."""
        if (t, row) not in self.lineage.nodes:
            return shown
        key = f"{t}-{self.lineage.generations[t].ids[row]}"
        chosen = "chosen" if self.lineage.generations[t].children[row] else None
        return tag("a", shown, href="#lineage", data_n=key, class_=chosen)

    def draw(self, t: int, code: int) -> Markup:
        """Returns the gallery of one label of one population."""
        rows = {int(self.lineage.generations[t].ids[row]): row for row in self.lineage.gallery(t, code)}

        def link(record: Mapping[str, Any], shown: Markup) -> Markup:
            return self.link(t, rows[record["candidate_id"]], shown)

        return self.view.gallery([self.record(t, row) for row in rows.values()], link)

    def by_label(self, t: int, *, heading: str) -> Markup:
        """Returns galleries of the shown labels of one population, with name (h3 or h4) and number of candidates."""
        rows = join(self._labelled(t, code, heading) for code in self.lineage.shown_codes)
        return tag("div", rows, class_="by-label")

    def _labelled(self, t: int, code: int, heading: str) -> Markup:
        label = self.history.labels[code]
        count = self.history.manifest(t)["candidates"][label or ""]
        shown = len(self.lineage.gallery(t, code))
        size = f"{number(count)}" if shown == count else f"{shown} of {number(count)}"
        name = Markup('<span class="label">{}</span> <small>{}</small>').format(self.label(code), size)
        head = tag(heading, name, class_="of")
        return tag("div", join([head, self.draw(t, code)]), class_="row")


def hero(gallery: Gallery) -> Markup:
    """Returns a few samples as decoration for the head of the page. The gallery below shows them with names."""
    lineage, view = gallery.lineage, gallery.view
    last = lineage.history.last
    many = 96 if view.tile else 2
    codes = (
        lineage.shown_codes[:12] if view.tile else [lineage.shown_codes[i] for i in evenly(len(lineage.shown_codes), 2)]
    )
    each = max(1, many // len(codes))
    rows = [lineage.gallery(last, code) for code in codes]
    picked = [own[i] for own in rows for i in evenly(len(own), each)]
    shown = (view.fragment(gallery.record(last, row), large=not view.tile) for row in picked)
    items = join(Markup("<li>{}</li>").format(item) for item in shown)
    kind = "tiles" if view.tile else "blocks"
    across = (each if len(codes) > 5 else min(8, len(picked))) if view.tile else 1
    return Markup('<ul class="{} mosaic" style="--across:{}" aria-hidden="true">{}</ul>').format(kind, across, items)


def samples_section(gallery: Gallery) -> Section:
    """Returns the section with the newest population."""
    history, lineage = gallery.history, gallery.lineage
    count = number(history.size(history.last))
    fewer = len(lineage.shown_codes) < len(history.labels)
    more = f" {len(lineage.shown_codes)} of {len(history.labels)} labels are shown." if fewer else ""
    what = (
        "samples.parquet holds them all." if history.complete else "This is the newest population, not yet the samples."
    )
    lead = f"{count} synthetic records. None was taken from the data; each is a public generator's own work."
    note = f"A fixed choice at even steps, by label.{more} {what} Choose one to see where it comes from."
    body = join([tag("p", note, class_="muted small"), gallery.by_label(history.last, heading="h3")])
    return Section(key="samples", title="What came out", lead=lead, body=body)


def evolution_section(gallery: Gallery) -> Section:
    """Returns the section with one line of descent per label, and the galleries of populations with votes."""
    history, lineage = gallery.history, gallery.lineage
    steps = [t for t in lineage.shown_iterations if t < history.last]
    lead = (
        _beginning(history)
        + "In every iteration the private records vote for the candidates nearest to them, "
        + ("noise is added to the votes, " if history.noisy else "")
        + "and the winners are varied."
    )
    strips = [_strip(gallery, code) for code in lineage.shown_codes[: _STRIPS if gallery.view.tile else _STRIP_BLOCKS]]
    long = max(len(gallery.label(code)) for code in lineage.shown_codes) > 3
    note = (
        "Candidates that got most noisy votes come first (half of those shown), then a fixed choice of the rest. A "
        "line under "
        "a candidate says that it was varied or kept for the next population."
    )
    open_ = [details(_summary(gallery, t), gallery.by_label(t, heading="h4"), class_="population") for t in steps]
    body = join(
        [
            tag("h3", "From the first guess to the sample"),
            tag(
                "p",
                "For each label, the line of descent that gathered most votes. Figures are noisy votes.",
                class_="muted small",
            ),
            tag("div", join(strips), class_="strips named" if long else "strips"),
            tag("h3", "Every population"),
            tag("p", note, class_="muted small"),
            *open_,
        ]
    )
    return Section(key="evolution", title="How it got there", lead=lead, body=body)


def _beginning(history: History) -> str:
    """Returns a sentence on where population 0 comes from."""
    if history.start is not None:
        told = history.manifest(0)["start"]
        taken, fresh = (number(sum(told[kind].values())) for kind in ("taken", "fresh"))
        return f"It begins with {counted(taken, 'candidate')} of an earlier release and {fresh} new ones. "
    privacy = history.recipe["privacy"]
    bought = privacy.get("marginals") or privacy.get("measure")
    return "It begins with bought marginals. " if bought else "It begins at random. "


def _summary(gallery: Gallery, t: int) -> Markup:
    """Returns the summary of a closed population: its number, its size, and the best candidate of each label."""
    lineage, view = gallery.lineage, gallery.view
    codes = lineage.shown_codes[:12] if view.tile else []
    best = [row for code in codes for row in lineage.gallery(t, code)[:1]]
    taste = join(view.fragment(gallery.record(t, row)) for row in best)
    name = Markup('<span class="name">Population {} <small>{}</small></span>')
    shown = Markup('<span class="taste" aria-hidden="true">{}</span>').format(taste)
    return name.format(t, counted(number(gallery.history.size(t)), "candidate")) + shown


def _strip(gallery: Gallery, code: int) -> Markup:
    lineage, view = gallery.lineage, gallery.view
    row = lineage.best(code)
    if row is None:
        return Markup("")
    chain = lineage.ancestors(lineage.history.last, row)
    most = len(chain) if view.tile and len(chain) <= 12 else 12 if view.tile else 4
    items = []
    for t, at in (chain[i] for i in evenly(len(chain), most)):
        votes = lineage.generations[t].votes
        under = "out" if t == lineage.history.last else f"{number(None if votes is None else float(votes[at]), 0)}"
        shown = view.fragment(gallery.record(t, at), None if view.tile else gallery.parent(t, at))
        step = Markup('<span class="step">{}</span>').format(t)
        inside = Markup('{}{}<span class="under">{}</span>').format(step, gallery.link(t, at, shown), under)
        items.append(tag("li", inside, title=gallery.maker(t, at)))
    head = Markup('<span class="label">{}</span>').format(gallery.label(code))
    listed = Markup('<ol class="strip" style="--across:{}">{}</ol>').format(len(items), join(items))
    return tag("div", join([head, listed]), class_="line" if view.tile else "line long")
