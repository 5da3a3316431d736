"""Event sequences in a report: events in order with the gaps between them, changed events marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from markupsafe import Markup

from pe_beam.contracts.view import View
from pe_beam.modalities.sequence.schema import EVENTS, GAP, KIND, SequenceSchema

_SHOWN, _LARGE = 14, 200


class SequenceView(View):
    """Shows a sequence as a line of its events, each after its gap."""

    tile: ClassVar[bool] = False
    gallery_size: ClassVar[int] = 10

    def __init__(self, schema: SequenceSchema) -> None:
        """Takes the declared schema."""
        self._schema = schema

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """See View. Of a variation, events that its parent does not have at that place are marked."""
        events = record[EVENTS]
        shown = events[: _LARGE if large else _SHOWN]
        before = [] if parent is None else parent[EVENTS]
        items = Markup("").join(
            self._event(event, parent is not None and (place >= len(before) or before[place] != event), large)
            for place, event in enumerate(shown)
        )
        more = len(events) - len(shown)
        rest = Markup('<span class="sq-gap">and {} more</span>').format(more) if more else ""
        return Markup('<span class="sq">{}{}</span>').format(items, rest)

    def _event(self, event: Mapping[str, Any], changed: bool, large: bool) -> Markup:
        gap = ""
        if event[GAP] is not None:
            unit = "" if self._schema.gaps.unit == "number" else f" {self._schema.gaps.unit}"
            gap = Markup('<span class="sq-gap">{} →</span> ').format(f"{event[GAP]}{unit}")
        own = ""
        if large and self._schema.attributes:
            values = ", ".join(f"{name} {_shown(event[name])}" for name in self._schema.attributes)
            own = Markup(' <span class="sq-gap">({})</span>').format(values)
        kind = Markup("<mark>{}</mark>" if changed else "<b>{}</b>").format(event[KIND])
        return Markup("<span>{}{}{}</span> ").format(gap, kind, own)

    def alt(self, record: Mapping[str, Any]) -> str:
        """See View: the first kinds of events."""
        kinds = ", ".join(str(event[KIND]) for event in record[EVENTS][:4])
        return f"sequence {record['candidate_id']} of {len(record[EVENTS])}: {kinds}"

    def css(self) -> str:
        """See View."""
        return _STYLE


_STYLE = """.sq{display:flex;flex-wrap:wrap;gap:2px 10px;font-size:.88rem}
.sq-gap{color:var(--muted);font-size:.8rem}
.sq mark{background:var(--accent-soft);color:inherit;padding:0 3px;border-radius:3px;font-weight:bold}
"""


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
