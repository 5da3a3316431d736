"""The contract of a view, which shows the records of a modality in the report."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page that is listed in the table of contents.

    Attributes:
      key: the anchor: lower-case letters, digits and hyphens, unique on the page.
      title: plain text.
      body: HTML; headings in it start at <h3>.
      lead: one or two sentences under the title, in large type.
    """

    key: str
    title: str
    body: Markup
    lead: object = ""


class History(Protocol):
    """A release as a view reads it, iteration by iteration. It contains nothing private.

    Attributes:
      recipe: the content of the release's `recipe.json`, without paths and names of private columns.
      privacy: the content of `privacy.json`.
      complete: False for a run that is not finished.
    """

    @property
    def recipe(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def privacy(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102

    @property
    def iterations(self) -> list[int]:
        """Iterations whose populations exist: 0 to T in a complete run."""

    @property
    def last(self) -> int:
        """Iteration of the newest population."""

    @property
    def labels(self) -> list[str | None]:
        """The declared labels; [None] without labels."""

    def manifest(self, iteration: int) -> dict[str, Any]:
        """Returns the manifest of an iteration."""

    def population(self, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns a population, sorted by candidate_id; `columns` are the columns to read."""

    def records(self, iteration: int, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Returns the records with these ids by candidate_id. Memory does not grow with the population."""

    def histogram(self, iteration: int) -> pa.Table:
        """Returns noisy votes on population t-1 (columns candidate_id, label, noisy_votes), for iteration t >= 1."""


class View(abc.ABC):
    """Shows the records of a modality in the report. One object draws one report, and may keep state meanwhile.

    A record is a plain dict of a population's columns: `candidate_id`, `parent_id`, `label`, `origin`, and the payload.
    HTML is `markupsafe.Markup`: build it with `Markup("<p>{}</p>").format(value)`, which escapes the value. Content
    and labels may be hostile: they must never reach the page unescaped. The HTML must not cause a request
    (`data:` pictures are fine, scripts are not). Drawing is deterministic: no clock, no random numbers. Colours come
    from the page's CSS variables (`pe_beam.report.page` lists them), so that light and dark both work.

    Attributes:
      tile: True if a fragment is a small square (a picture) that is placed in a grid; False for blocks of text or
        rows, which are placed below each other.
      gallery_size: largest number of records of one label and iteration in a gallery; the report may show fewer.
    """

    tile: ClassVar[bool] = False
    gallery_size: ClassVar[int] = 8

    @abc.abstractmethod
    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Returns one record as HTML.

        It is placed inside a link, so it contains no link, button or other focusable element, and no `id`.

        Args:
          record: the record to show.
          parent: the candidate of which the record is a variation, if the changes are to be marked (changed words,
            changed cells); None: no change is marked.
          large: True if the record is shown by itself, with more room (about 160 px for a tile, all of a text).
        """

    @abc.abstractmethod
    def alt(self, record: Mapping[str, Any]) -> str:
        """Returns a short plain text for screen readers: "picture 1204, label 3", or a text's first words."""

    def gallery(
        self, records: Sequence[Mapping[str, Any]], link: Callable[[Mapping[str, Any], Markup], Markup]
    ) -> Markup:
        """Returns the HTML of many records of one label and iteration, in the order given.

        Args:
          records: at most `gallery_size` records.
          link: (record, its HTML) -> the HTML inside a link to the record's lineage, or unchanged if the report shows
            no lineage. It is called once per record, on its fragment, or on one cell if records are rows of a table.
        """
        items = (Markup("<li>{}</li>").format(link(record, self.fragment(record))) for record in records)
        return Markup('<ul class="{}">{}</ul>').format("tiles" if self.tile else "blocks", Markup("").join(items))

    def sections(self, history: History) -> Sequence[Section]:
        """Returns the modality's own sections, shown after the galleries (lengths of texts, marginals of columns).

        Args:
          history: the populations and noisy histograms of the release, by iteration. `pe_beam.report.charts` draws
            charts.
        """
        return ()

    def css(self) -> str:
        """Returns the CSS that the fragments need. It is called after all fragments are drawn, so it can hold pictures
        that several fragments share."""
        return ""
