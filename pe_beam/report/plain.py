"""The view of modalities without their own view: shows names and values of a record's payload as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.report.html import facts

_SHORT, _LONG = 120, 2000


class PlainView(View):
    """Shows payload columns as a definition list. For bytes it shows only their number."""

    tile = False
    gallery_size = 6

    def __init__(self, columns: Sequence[str]) -> None:
        """Takes the names of the payload's columns."""
        self._columns = list(columns)

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Returns names and values. Long values are cut."""
        return facts((name, _text(record[name], _LONG if large else _SHORT)) for name in self._columns)

    def alt(self, record: Mapping[str, Any]) -> str:
        """Returns a text with the id of the candidate."""
        return f"candidate {record['candidate_id']}"


def view_of(modality: Modality) -> View:
    """Returns a view that draws one report of a modality: its own, or a `PlainView`."""
    return PlainView(modality.payload.names) if modality.view is None else modality.view()


def _text(value: object, most: int) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
