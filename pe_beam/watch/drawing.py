"""Draws ranges of released populations, and the family of a candidate, as HTML. Everything here is in the release.

What is drawn goes into a shadow root of the page, so each drawing brings the style of its pictures with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.makers import without_maker
from pe_beam.contracts.view import View
from pe_beam.engine.manifests import manifest_of
from pe_beam.errors import InputError
from pe_beam.report.html import join, number, tag
from pe_beam.report.plain import PlainView
from pe_beam.watch.populations import Populations

_LABELS_OF_TILES, _LABELS_OF_BLOCKS = 10, 4  # labels of an overview
_KIN, _STEPS = 8, 12  # siblings, children and ancestors that are drawn
NO_CANDIDATE = "there is no such candidate in the populations so far"


@dataclass(frozen=True)
class Range:
    """Which candidates to draw.

    Attributes:
      iteration: the population.
      code: position of a label; None: an overview, the beginning of each of several labels.
      start: the first candidate of the label, or the first label of an overview.
      by_votes: most noisy votes first; else by id.
    """

    iteration: int
    code: int | None
    start: int
    by_votes: bool


def gallery(populations: Populations, wanted: Range) -> Markup:
    """Returns a range of a population, label by label, with buttons for the ranges beside it.

    Raises:
      InputError: there is no such population or label, or a file of the release is missing or damaged.
    """
    labels = populations.run.recipe.label_list
    if not 0 <= wanted.iteration < populations.count:
        raise InputError(f"population {wanted.iteration}: not there yet; there are {populations.count}")
    if wanted.code is not None and not 0 <= wanted.code < len(labels):
        raise InputError(f"label {wanted.code}: there are {len(labels)}")
    view = _view(populations)
    if wanted.code is None and len(labels) > 1:
        at_once = _LABELS_OF_TILES if view.tile else _LABELS_OF_BLOCKS
        first = _within(wanted.start, len(labels), at_once)
        shown = [
            _Row(populations, wanted, code, 0, -(-view.gallery_size // 2))
            for code in range(first, min(first + at_once, len(labels)))
        ]
        turn = _turning("labels", first, at_once, len(labels))
    else:
        code = wanted.code or 0
        count = len(populations.columns(wanted.iteration).of_label(code, by_votes=False))
        first = _within(wanted.start, count, view.gallery_size)
        shown = [_Row(populations, wanted, code, first, view.gallery_size)]
        turn = _turning("candidates", first, view.gallery_size, count)
    records = populations.records(wanted.iteration, (int(row) for each in shown for row in each.rows))
    drawn = join(each.draw(view, records, alone=wanted.code is not None) for each in shown)
    return _styled(view, join([tag("div", drawn, class_="by-label"), turn]))


class _Row:
    """Some candidates of one label."""

    def __init__(self, populations: Populations, wanted: Range, code: int, first: int, size: int) -> None:
        columns = populations.columns(wanted.iteration)
        every = columns.of_label(code, by_votes=wanted.by_votes)
        self._t, self._code, self._count = wanted.iteration, code, len(every)
        self._several = len(populations.run.recipe.label_list) > 1
        self._label = populations.run.recipe.label_list[code]
        self.rows = every[first : first + size]
        ids = columns.ids[self.rows]
        chosen = set[int]()
        if wanted.iteration + 1 < populations.count:
            chosen = set(ids[np.isin(ids, populations.columns(wanted.iteration + 1).before)].tolist())
        self._chosen = chosen

    def draw(self, view: View, records: Mapping[int, dict[str, Any]], *, alone: bool) -> Markup:
        name = "all records" if self._label is None else str(self._label)
        count = f"{len(self.rows)} of {number(self._count)}" if len(self.rows) < self._count else number(self._count)
        head = Markup('<h3 class="of"><span class="label">{}</span> <small>{}</small>{}</h3>')
        more: object = ""
        if self._several and alone:
            more = tag("button", "all labels", type="button", data_label="", aria_label="Show all labels")
        elif self._several and len(self.rows) < self._count:
            said = f"Show all of label {name}"
            more = tag("button", "show all", type="button", data_label=self._code, aria_label=said)

        def link(record: Mapping[str, Any], shown: Markup) -> Markup:
            candidate = record["candidate_id"]
            kind = "chosen" if candidate in self._chosen else None
            return tag("a", shown, href=f"#c{self._t}-{candidate}", class_=kind)

        drawn = view.gallery([records[int(row)] for row in self.rows], link)
        return tag("div", join([head.format(name, count, more), drawn]), class_="row")


def _within(start: int, count: int, size: int) -> int:
    """Returns the start of the range that `start` is in, of ranges of one size; that of the last one if it is beyond.

    >>> _within(30, 100, 24), _within(1000, 100, 24), _within(5, 0, 24)
    (24, 96, 0)
    """
    return max(0, min(start, count - 1)) // size * size


def _turning(what: str, first: int, size: int, count: int) -> Markup:
    """Returns buttons for the ranges before and after one; nothing if it is the only one."""
    if count <= size:
        return Markup("")
    last = (count - 1) // size * size
    places = [("first", 0), ("previous", first - size), ("next", first + size), ("last", last)]
    buttons = [
        tag("button", name, type="button", data_start=place)
        if 0 <= place < count and place != first
        else Markup('<button type="button" disabled>{}</button>').format(name)
        for name, place in places
    ]
    said = f"{what} {number(first + 1)}–{number(min(first + size, count))} of {number(count)}"
    middle = tag("span", said, class_="at")
    inside = join([*buttons[:2], middle, *buttons[2:]])
    return tag("div", inside, class_="turn", role="group", aria_label=f"Ranges of {what}")


def family(populations: Populations, iteration: int, candidate: int) -> Markup:
    """Returns a candidate with its ancestors, siblings and children, and the noisy votes that it got.

    Raises:
      InputError: there is no such candidate, or a file of the release is missing or damaged.
    """
    row = populations.columns(iteration).row_of(candidate) if 0 <= iteration < populations.count else None
    if row is None:
        raise InputError(NO_CANDIDATE)
    view, kin = _view(populations), _Kin(populations)
    chain = kin.ancestors(iteration, row)
    parent = chain[-2] if len(chain) > 1 else None
    siblings = kin.siblings(iteration, row)
    children = kin.children(iteration, row)
    kin.read([*chain, *((iteration, r) for r in siblings.shown), *((iteration + 1, r) for r in children.shown)])

    def small(at: tuple[int, int]) -> Markup:
        here = Markup(' aria-current="true"') if at == (iteration, row) else Markup("")
        return Markup('<a href="#{}"{}>{}</a>').format(kin.key(at), here, view.fragment(kin.record(at)))

    steps = join(tag("li", join([at[0], small(at), kin.votes_text(at)])) for at in chain)
    path = tag("ol", steps, class_="path", tabindex="0", aria_label="Line of descent: ancestors, and the candidate")
    own = (iteration, row)
    changed = kin.record(parent) if parent is not None and not populations.columns(iteration).kept[row] else None
    big = tag("div", view.fragment(kin.record(own), changed, large=True), class_="big")
    words = [tag("h3", f"Candidate {candidate}", tabindex="-1"), kin.facts(own, parent, children.total)]
    for title, brood, t in (("Siblings, itself included", siblings, iteration), ("Children", children, iteration + 1)):
        if brood.total:
            words.append(tag("h4", brood.title(title)))
            items = join(
                tag("li", join([small((t, r)), tag("small", kin.votes_text((t, r)))]), class_=_here((t, r) == own))
                for r in brood.shown
            )
            words.append(tag("ul", items, class_="kin"))
    focus = tag("div", join([big, tag("div", join(words))]), class_="focus")
    keys = kin.moves(own, parent, siblings, children)
    stage = tag("div", join([path, focus]), id="tree", class_="tiled" if view.tile else "blocked", **keys)
    return _styled(view, stage)


def _here(current: bool) -> str | None:
    return "here" if current else None


@dataclass(frozen=True)
class _Brood:
    """Rows of a population that came of one candidate.

    Attributes:
      shown: some of them.
      total: the number of all.
    """

    shown: list[int]
    total: int

    def title(self, name: str) -> str:
        more = f", {len(self.shown)} are shown" if len(self.shown) < self.total else ""
        return f"{name} ({number(self.total)}{more})"


class _Kin:
    """Finds relatives of candidates, each by (iteration, row)."""

    def __init__(self, populations: Populations) -> None:
        self._populations = populations
        self._records: dict[int, dict[int, dict[str, Any]]] = {}

    def read(self, wanted: list[tuple[int, int]]) -> None:
        """Reads the content of candidates; `record` gives it."""
        for t in {t for t, _ in wanted}:
            self._records[t] = self._populations.records(t, (row for at, row in wanted if at == t))

    def record(self, at: tuple[int, int]) -> dict[str, Any]:
        return self._records[at[0]][at[1]]

    def key(self, at: tuple[int, int]) -> str:
        return f"c{at[0]}-{self._populations.columns(at[0]).ids[at[1]]}"

    def parent(self, t: int, row: int) -> int | None:
        before = int(self._populations.columns(t).before[row])
        return self._populations.columns(t - 1).row_of(before) if t and before >= 0 else None

    def ancestors(self, t: int, row: int) -> list[tuple[int, int]]:
        """Returns the nearest ancestors, the oldest first, and the candidate itself."""
        chain = [(t, row)]
        while len(chain) < _STEPS and (parent := self.parent(*chain[0])) is not None:
            chain.insert(0, (chain[0][0] - 1, parent))
        return chain

    def siblings(self, t: int, row: int) -> _Brood:
        """Returns the candidates of the same parent, near to the candidate itself; none if it has no parent."""
        columns = self._populations.columns(t)
        if self.parent(t, row) is None:
            return _Brood([], 0)
        rows = columns.of_parent(int(columns.before[row]))
        first = max(0, min(int(np.searchsorted(rows, row)) - _KIN // 2, len(rows) - _KIN))
        return _Brood(rows[first : first + _KIN].tolist(), len(rows))

    def children(self, t: int, row: int) -> _Brood:
        """Returns candidates of the next population that came of one, those with most noisy votes first."""
        if t + 1 >= self._populations.count:
            return _Brood([], 0)
        columns = self._populations.columns(t + 1)
        rows = columns.of_parent(int(self._populations.columns(t).ids[row]))
        if columns.votes is not None:
            rows = rows[np.lexsort((rows, -columns.votes[rows]))]
        return _Brood(rows[:_KIN].tolist(), len(rows))

    def votes(self, at: tuple[int, int]) -> float | None:
        votes = self._populations.columns(at[0]).votes
        return None if votes is None else float(votes[at[1]])

    def votes_text(self, at: tuple[int, int]) -> str:
        votes = self.votes(at)
        return "" if votes is None else number(votes)

    def moves(
        self, own: tuple[int, int], parent: tuple[int, int] | None, siblings: _Brood, children: _Brood
    ) -> dict[str, object]:
        """Returns where the arrow keys lead, as attributes."""
        brood = siblings.shown
        place = brood.index(own[1]) if own[1] in brood else 0
        found = {
            "data_left": parent,
            "data_right": (own[0] + 1, children.shown[0]) if children.shown else None,
            "data_up": (own[0], brood[place - 1]) if place else None,
            "data_down": (own[0], brood[place + 1]) if place + 1 < len(brood) else None,
        }
        return {name: self.key(at) for name, at in found.items() if at is not None}

    def facts(self, own: tuple[int, int], parent: tuple[int, int] | None, born: int) -> Markup:
        """Returns what is released of a candidate: label, origin, generator, noisy votes, whether it was chosen."""
        t, row = own
        columns, run = self._populations.columns(t), self._populations.run
        label = run.recipe.label_list[int(columns.codes[row])]
        origin = "made at random"
        if columns.kept[row]:
            origin = f"kept from population {t - 1}" if t else "taken from an earlier release"
        elif parent is not None:
            origin = f"varied from {self._populations.columns(t - 1).ids[parent[1]]}"
        said = [f"label {label}"] if label is not None else []
        said += [f"population {t}", origin]
        if run.recipe.generators and (maker := without_maker(self.record(own)["state"])[0]) is not None:
            said.append(f"made by {maker}")
        head = tag("p", " · ".join(said), class_="muted")
        votes = self.votes(own)
        if votes is None:
            return join([head, tag("p", "One of the newest population: no vote on it is released yet.")])
        sigma = run.plan.schedule.sigmas[t]
        height = manifest_of(run, t + 1)["selection"]["threshold"][label or ""]
        words = f"{number(votes)} noisy votes in iteration {t + 1}"
        words += f"; the noise alone is ±{number(sigma)}" if sigma else "; there is no noise in them"
        words += f", the threshold {number(height)}. " if height is not None else ". "
        words += f"It was chosen: {number(born)} of the next population came of it." if born else "It was not chosen."
        if born and height is not None and votes <= height and run.recipe.evolution.smoothing:
            words += " Its neighbours' votes were pooled with its own."
        return join([head, tag("p", words), _gauge(votes, sigma, height)])


def _gauge(votes: float, sigma: float, height: float | None) -> Markup:
    """Draws noisy votes beside the noise and the threshold."""
    high = max(abs(votes), 3 * sigma, height or 0, 1) * 1.08
    low = min(-1.6 * sigma, votes * 1.08, 0)

    def part(name: str, start: float, stop: float) -> Markup:
        left, right = sorted(100 * (value - low) / (high - low) for value in (start, stop))
        return tag("i", "", class_=name, style=f"left:{left:.2f}%;width:{right - left:.2f}%")

    parts = [part("band", -sigma, sigma), part("bar", 0, votes), part("zero", 0, 0)]
    parts += [] if height is None else [part("line-at", height, height)]
    return tag("div", join(parts), class_="gauge", aria_hidden="true")


def _view(populations: Populations) -> View:
    modality = populations.run.modality
    return modality.view() if modality.view is not None else PlainView(modality.payload.names)


def _styled(view: View, drawn: Markup) -> Markup:
    """Returns what a view has drawn with its style, which holds its pictures and so is asked for last."""
    return Markup("<style>{}</style>{}").format(Markup(view.css().replace("</", "<\\/")), drawn)
