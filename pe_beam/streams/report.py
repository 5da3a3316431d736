"""The report of a stream: one page over its published windows, made of `stream.json` and their releases alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.store import Folder, Store
from pe_beam.contracts.view import Section
from pe_beam.errors import InputError
from pe_beam.privacy.statement import rounded_up
from pe_beam.recipe.parts import find_modality
from pe_beam.report import page as pages
from pe_beam.report.build import history_of
from pe_beam.report.charts import ACCENT, MUTED, NOISE, NOISE_SOFT, SERIES, draw_twice, whole
from pe_beam.report.history import History
from pe_beam.report.html import facts, figure, join, number, table, tag
from pe_beam.report.plain import view_of
from pe_beam.storage.json_file import read_json
from pe_beam.streams.layout import published_name, published_windows
from pe_beam.streams.promise import read_promise, stored_recipe
from pe_beam.wording import counted

REPORT = "report.html"
_MOST, _GALLERIES, _RECORDS = 60, 8, 6  # windows in charts and tables, galleries, records in each


@dataclass(frozen=True)
class Window:
    """A published window.

    Attributes:
      note: what `published/` says of it.
      history: its release.
    """

    note: dict[str, Any]
    history: History

    @property
    def name(self) -> str:
        """Its start, as people read it."""
        return str(self.note["start"]).removesuffix("Z").removesuffix(":00").replace("T", " ").removesuffix(" 00:00")

    @cached_property
    def votes(self) -> list[float]:
        """Noisy votes of the last iteration by label, in declared order."""
        histogram = self.history.histogram(self.history.last)
        labels, noisy = histogram["label"].to_pylist(), histogram["noisy_votes"].to_numpy()
        own = np.array([self.history.labels.index(label) for label in labels])
        return [float(noisy[own == code].sum()) for code in range(len(self.history.labels))]

    @cached_property
    def sides(self) -> dict[str, tuple[float, float]] | None:
        """Mean noisy votes in the first iteration of a new candidate and of one of the release before, with deviation.

        None: all candidates are of one kind.
        """
        first = self.history.population(0, ["candidate_id", "origin"])
        noisy = self.history.histogram(1)["noisy_votes"].to_numpy()
        new = np.array(first["origin"].to_pylist()) == "random"
        if new.all() or not new.any():
            return None
        sigma = self.history.privacy["noise_multiplier"][0] * self.history.sensitivity
        return {
            name: (float(noisy[rows].mean()), float(sigma / np.sqrt(rows.sum())))
            for name, rows in (("new", new), ("before", ~new))
        }


def report(store: Store) -> str:
    """Writes the report of a stream. Returns its location.

    Raises:
      InputError: it is no stream, no window is published, or a file of a release is missing or damaged.
    """
    promise, names = read_promise(store), published_windows(store)
    if not names:
        raise InputError(f"{store.uri}: no window is published yet, so there is nothing to report")
    windows = []
    for name in names[-_MOST:]:
        note = read_json(store, published_name(name), dict)
        if store.exists(f"{note['release']}/privacy.json"):
            windows.append(Window(note, history_of(Folder(store, note["release"]))))
    modality = find_modality(stored_recipe(store))
    try:
        page = build(promise, windows, modality, published=len(names))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{store.uri}: a file of a window's release is missing or damaged; restore it") from error
    store.commit(REPORT, page, replace=True)
    return store.at(REPORT)


def build(promise: dict[str, Any], windows: Sequence[Window], modality: Modality, *, published: int) -> bytes:
    """Returns the page. Equal releases give equal bytes.

    Args:
      promise: the content of `stream.json`.
      windows: the newest published windows that are there, in order.
      modality: of the records.
      published: number of all published windows.
    """
    private = promise["epsilon"] != "inf"
    view = view_of(modality)
    sections = [_promise_section(promise, windows), _samples_section(windows, view)]
    drift = _drift(windows)
    sections += [Section(key="drift", title="What changes", lead=_DRIFT, body=drift)] if drift else []
    sections.append(_windows_section(windows, published))
    epsilon = f"{rounded_up(promise['epsilon'], 3)}" if private else "∞"
    figure_ = Markup('<p class="eps{}"><span class="sym">ε</span> {} <span class="delta">δ {:g}</span></p>')
    listed = [
        ("Protected", promise["unit"]),
        ("Neighbours", promise["adjacency"]),
        ("A window every", promise["window"]["every"]),
        ("Published windows", number(published)),
    ]
    lead = "This is for the whole stream, however many windows there will be." if private else "No noise was added."
    head = [figure_.format("" if private else " none", epsilon, promise["delta"]), tag("p", lead, class_="lead")]
    words = tag("div", join([*head, facts(listed)]), class_="words")
    return pages.render(
        pages.Page(
            title=promise["name"],
            kicker="A stream of synthetic data by Private Evolution",
            hero=tag("div", words, class_="head"),
            sections=sections,
            mark="" if private else "NOT PRIVATE",
            mark_text="" if private else "No noise was added: treat this file as the private data themselves.",
            foot=tag("p", "Made by pe_beam from stream.json and the published releases alone. It asks for nothing."),
            css=pages.script("report.css") + view.css(),
        )
    )


_DRIFT = (
    "Each window starts from the release before it and some new candidates. Where data move, votes go from the old to "
    "the new. All figures are noisy votes, which are released."
)


def _promise_section(promise: dict[str, Any], windows: Sequence[Window]) -> Section:
    spent = [float(window.history.privacy["spent_epsilon"]) for window in windows]
    rows = [(window.name, f"{value:.4g}") for window, value in zip(windows, spent, strict=True)]
    body = tag("p", promise["statement"], class_="note")
    if promise["epsilon"] != "inf":

        def paint(axes: Any) -> None:
            places = range(len(spent))
            axes.plot(places, [promise["epsilon"]] * len(spent), color=ACCENT, label="of the stream")
            axes.plot(places, spent, color=NOISE, marker="o", markersize=3, linewidth=0, label="of the window")
            axes.set_ylim(0, 1.25 * max([promise["epsilon"], *spent]))
            axes.set_ylabel("epsilon")
            _name_windows(axes, windows)
            axes.legend(loc="lower right")

        said = f"Epsilon of the stream stays {promise['epsilon']:.4g} over {counted(len(spent), 'window')}."
        chart = draw_twice(paint, title="Epsilon over windows", desc=said, width=760, height=220)
        data = table(["Window", "Epsilon"], rows, caption="Epsilon by window")
        body += figure(chart, "Epsilon does not grow: each record votes in one window.", data=data)
    return Section(key="promise", title="What is promised", body=body)


def _name_windows(axes: Any, windows: Sequence[Window]) -> None:
    whole(axes.xaxis)
    axes.xaxis.set_major_formatter(lambda at, _: windows[int(at)].name if 0 <= at < len(windows) else "")
    axes.tick_params(axis="x", labelrotation=20)


def _samples_section(windows: Sequence[Window], view: Any) -> Section:
    rows = []
    for window in list(windows)[-_GALLERIES:][::-1]:
        history = window.history
        ids = history.population(history.last, ["candidate_id"])["candidate_id"].to_pylist()
        many = min(len(ids), 12 if view.tile else _RECORDS)
        chosen = [ids[place * len(ids) // many] for place in range(many)]
        records = list(history.records(history.last, chosen).values())
        shown = view.gallery(records, lambda _, html: html)
        size = Markup('<span class="label">{}</span> <small>{}</small>').format(window.name, number(len(ids)))
        rows.append(tag("div", join([tag("h3", size, class_="of"), tag("div", shown)]), class_="row"))
    lead = "Some samples of each window, the newest first: a fixed choice at even steps."
    return Section(key="samples", title="What came out", lead=lead, body=tag("div", join(rows), class_="by-label"))


def _drift(windows: Sequence[Window]) -> Markup:
    charts = []
    both = [(place, window.sides) for place, window in enumerate(windows) if window.sides is not None]
    if len(both) > 1:
        charts.append(_sides_chart(windows, [(place, sides) for place, sides in both if sides is not None]))
    if windows and len(windows[0].history.labels) > 1 and len(windows) > 1:
        charts.append(_labels_chart(windows))
    return join(charts)


def _sides_chart(windows: Sequence[Window], both: Sequence[tuple[int, dict[str, tuple[float, float]]]]) -> Markup:
    names = {"before": ("of the release before", ACCENT), "new": ("new", MUTED)}

    def paint(axes: Any) -> None:
        for side, (name, colour) in names.items():
            places = [place for place, _ in both]
            means, deviations = (np.array([sides[side][i] for _, sides in both]) for i in (0, 1))
            axes.fill_between(places, means - 2 * deviations, means + 2 * deviations, color=NOISE_SOFT, linewidth=0)
            axes.plot(places, means, color=colour, marker="o", markersize=3, label=name)
        axes.set_ylabel("noisy votes a candidate")
        _name_windows(axes, windows)
        axes.legend()

    said = "Mean noisy votes of candidates of the release before and of new ones, in each window's first iteration."
    chart = draw_twice(paint, title="Votes for old and new", desc=said, width=760, height=260)
    rows = [(windows[place].name, sides["before"][0], sides["new"][0]) for place, sides in both]
    data = table(["Window", "Of the release before", "New"], rows, caption="Mean noisy votes a candidate")
    return figure(chart, "Votes for old and new candidates; bands are two deviations of the noise.", data=data)


def _labels_chart(windows: Sequence[Window]) -> Markup:
    labels = windows[0].history.labels
    shown = sorted(range(len(labels)), key=lambda code: -sum(window.votes[code] for window in windows))[: len(SERIES)]

    def paint(axes: Any) -> None:
        for colour, code in zip(SERIES, sorted(shown), strict=False):
            axes.plot([window.votes[code] for window in windows], color=colour, label=str(labels[code]))
        axes.set_ylabel("noisy votes")
        _name_windows(axes, windows)
        axes.legend(ncols=2)

    said = "Noisy votes by label in the last iteration of each window."
    chart = draw_twice(paint, title="Votes by label", desc=said, width=760, height=260)
    rows = [(window.name, *(window.votes[code] for code in sorted(shown))) for window in windows]
    data = table(["Window", *(str(labels[code]) for code in sorted(shown))], rows, caption="Noisy votes by label")
    return figure(chart, f"Noisy votes by label ({len(shown)} of {len(labels)}).", data=data)


def _windows_section(windows: Sequence[Window], published: int) -> Section:
    rows = []
    for window in list(windows)[::-1]:
        link = tag("a", "report", href=f"{window.note['release']}/report.html")
        ready = "no" if window.note["missed"] else "yes"
        size = number(window.history.size(window.history.last))
        rows.append((window.name, str(window.note["published"]).replace("T", " "), ready, size, link))
    head = ["Window", "Published (UTC)", "Ready in time", "Samples", "Its own report"]
    lead = f"{number(len(windows))} of {number(published)} published windows are here."
    return Section(key="windows", title="Windows", lead=lead, body=table(head, rows, caption="Published windows"))
