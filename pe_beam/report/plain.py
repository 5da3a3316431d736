"""How a record is shown whose modality has no view of its own: names and values of its payload, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pe_beam.contracts.view import View
from pe_beam.report.html import facts

_SHORT, _LONG = 120, 2000


class PlainView(View):
    """Payload columns as a definition list; bytes are named by their number."""

    tile = False
    gallery_size = 6

    def __init__(self, columns: Sequence[str]) -> None:
        """Takes the names of the payload's columns."""
        self._columns = list(columns)

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Names and values, cut where they are long."""
        return facts((name, _text(record[name], _LONG if large else _SHORT)) for name in self._columns)

    def alt(self, record: Mapping[str, Any]) -> str:
        """The number of the candidate."""
        return f"candidate {record['candidate_id']}"


def _text(value: object, most: int) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
