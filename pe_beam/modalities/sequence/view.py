"""Event sequences in a report: events in order with the gaps between them, changed events marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from markupsafe import Markup

from pe_beam.contracts.view import View
from pe_beam.modalities.sequence.schema import EVENTS, GAP, KIND, SequenceSchema
from pe_beam.wording import counted

if TYPE_CHECKING:
    from pe_beam.contracts.view import History, Section
    from pe_beam.modalities.sequence.events import Sequences

_SHOWN, _LARGE = 14, 200
_PAIRS = 20


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
        count = len(record[EVENTS])
        kinds = ", ".join(str(event[KIND]) for event in record[EVENTS][:4])
        more = ", ..." if count > 4 else ""
        return f"sequence {record['candidate_id']}, {counted(count, 'event')}: {kinds}{more}"

    def sections(self, history: History) -> Sequence[Section]:
        """See View: what follows what, and lengths, in the first and the newest population."""
        from pe_beam.contracts.view import Section
        from pe_beam.modalities.sequence.events import read_payload

        steps = sorted({0, history.last})
        found = {t: read_payload(history.population(t, [EVENTS]), self._schema) for t in steps}
        lead = "Which event comes after which, and how many there are of a client."
        body = Markup("{}{}").format(self._transitions(found), self._lengths(found))
        return [Section(key="order", title="Order of events", lead=lead, body=body)]

    def _transitions(self, found: Mapping[int, Sequences]) -> Markup:
        """Returns a table of the pairs of consecutive events that the newest population has most often."""
        from pe_beam.modalities.sequence.metrics import transitions
        from pe_beam.report import html

        shares = {t: transitions(each, self._schema) for t, each in found.items()}
        kinds = self._schema.kinds
        most = np.argsort(-shares[max(shares)], kind="stable")[:_PAIRS].tolist()
        rows = [
            [
                f"{kinds[pair // len(kinds)]} → {kinds[pair % len(kinds)]}",
                *(html.number(100 * float(own[pair]), 1) + " %" for own in shares.values()),
            ]
            for pair in most
        ]
        heads = ["events", *(f"iteration {t}" for t in shares)]
        return html.table(
            heads, rows, caption=f"Share of all pairs of consecutive events, the {len(rows)} most frequent"
        )

    def _lengths(self, found: Mapping[int, Sequences]) -> Markup:
        from pe_beam.report import charts, html

        most = self._schema.most
        shares = {t: np.bincount(each.lengths, minlength=most + 1)[1:] / len(each.lengths) for t, each in found.items()}
        colours = [charts.MUTED, charts.ACCENT][-len(shares) :]

        def paint(axes: Any) -> None:
            for (t, values), colour in zip(shares.items(), colours, strict=True):
                axes.step(range(1, most + 1), values, where="mid", color=colour, label=f"iteration {t}")
            axes.set_ylim(bottom=0)
            axes.set_xlabel("events of a client")
            axes.set_ylabel("share")
            axes.legend()

        picture = charts.draw(paint, title="Lengths", desc="Shares of the numbers of events of a client, by iteration.")
        heads = ["events", *(f"iteration {t}" for t in shares)]
        rows = [
            [length, *(html.number(100 * float(own[length - 1]), 1) + " %" for own in shares.values())]
            for length in range(1, most + 1)
        ]
        figure = html.figure(picture, "Lengths", data=html.table(heads, rows, caption="Shares of lengths"))
        return Markup('<div class="grid">{}</div>').format(figure)

    def css(self) -> str:
        """See View."""
        return _STYLE


_STYLE = """.sq{display:flex;flex-wrap:wrap;gap:2px 10px;font-size:.88rem}
.sq-gap{color:var(--muted);font-size:.8rem}
.sq mark{background:var(--accent-soft);color:inherit;padding:0 3px;border-radius:3px;font-weight:bold}
"""


def _shown(value: Any) -> str:
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
