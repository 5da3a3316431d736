"""A view: how a modality shows its records in the report."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a place in its table of contents.

    Attributes:
      key: lower-case letters, digits and hyphens; unique on the page: the anchor.
      title: plain text.
      body: HTML; headings in it start at <h3>.
      lead: a sentence or two under the title, in large type.
    """

    key: str
    title: str
    body: Markup
    lead: object = ""


class History(Protocol):
    """A release as a view reads it, iteration by iteration. It holds nothing private.

    Attributes:
      recipe: as `recipe.json` of the release says, without paths and names of private columns.
      privacy: as `privacy.json` says.
      complete: False for a run that goes on.
    """

    @property
    def recipe(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def privacy(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102

    @property
    def iterations(self) -> list[int]:
        """The populations that exist, 0 to T in a complete run."""

    @property
    def last(self) -> int:
        """The newest population."""

    @property
    def labels(self) -> list[str | None]:
        """The declared labels; [None] without labels."""

    def manifest(self, iteration: int) -> dict[str, Any]:
        """The manifest of an iteration."""

    def population(self, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A population, sorted by candidate_id; `columns` names those to read."""

    def records(self, iteration: int, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Some records of a population by candidate_id; memory does not grow with the population."""

    def histogram(self, iteration: int) -> pa.Table:
        """Noisy votes on population t-1 (columns candidate_id, label, noisy_votes), for t from 1 on."""


class View(abc.ABC):
    """How a modality shows its records in the report. One object draws one report, and may keep state while it does.

    A record is a plain dict of a population's columns: `candidate_id`, `parent_id`, `label`, `origin`, and the payload.
    HTML is `markupsafe.Markup`: build it with `Markup("<p>{}</p>").format(value)`, which escapes the value. Content
    and labels may be hostile; nothing of them may reach the page unescaped, and nothing drawn may make a request
    (`data:` pictures are fine, scripts are not). Drawing is deterministic: no clock, no random numbers. Colours come
    from the page's CSS variables (`pe_beam.report.page` lists them), so that light and dark both work.

    Attributes:
      tile: True where a fragment is a small square (a picture) that is laid out in grids; False for blocks of text or
        rows, which are laid out below each other.
      gallery_size: most records of one label and iteration that a gallery shows; the report may ask for fewer.
    """

    tile: ClassVar[bool] = False
    gallery_size: ClassVar[int] = 8

    @abc.abstractmethod
    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """One record as HTML.

        It stands inside a link, so it holds no link, button or other focusable element, and no `id`.

        Args:
          record: what is shown.
          parent: the candidate that it was varied from, where a change is to be marked (changed words, changed cells);
            None: shown alone.
          large: shown on its own, with room (about 160 px for a tile, all of a text), not as one of many.
        """

    @abc.abstractmethod
    def alt(self, record: Mapping[str, Any]) -> str:
        """A short plain text in a record's place, as read aloud: "picture 1204, label 3", or a text's first words."""

    def gallery(
        self, records: Sequence[Mapping[str, Any]], link: Callable[[Mapping[str, Any], Markup], Markup]
    ) -> Markup:
        """Many records of one label and iteration, in the order given.

        Args:
          records: `gallery_size` of them or fewer.
          link: (record, its HTML) -> the HTML inside a link to its lineage, or unchanged where the report follows none.
            Each record calls it once, around its fragment, or around one cell if records are rows of a table.
        """
        items = (Markup("<li>{}</li>").format(link(record, self.fragment(record))) for record in records)
        return Markup('<ul class="{}">{}</ul>').format("tiles" if self.tile else "blocks", Markup("").join(items))

    def sections(self, history: History) -> Sequence[Section]:
        """Sections of the modality's own, shown after the galleries (lengths of texts, marginals of columns).

        Args:
          history: the populations and noisy histograms of the release, by iteration. Charts: `pe_beam.report.charts`.
        """
        return ()

    def css(self) -> str:
        """Style that the fragments need. Asked for last, when all fragments are drawn: pictures can be shared in it."""
        return ""
