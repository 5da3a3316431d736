"""Tables in a report: rows with marked changes, marginals by iteration, associations, rows that can be sorted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from pe_beam.contracts.view import View
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.metrics import column_shares, cramers_v, pearson
from pe_beam.modalities.tabular.schema import TableSchema

if TYPE_CHECKING:
    from pe_beam.contracts.view import History, Section

_SHOWN, _LARGE = 12, 200
_CHARTS, _PAIRED, _ROWS, _SORTED = 24, 24, 50, 12
_FEW = 10  # characters of a float that is shown with all its digits


class TableView(View):
    """Shows rows of a table with the declared columns."""

    tile = False
    gallery_size = 10

    def __init__(self, schema: TableSchema) -> None:
        """Takes the declared schema."""
        self._schema = schema
        self._names = list(schema.columns)

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Returns the HTML of columns and values. Changed values are marked, and the parent's value is beside them."""
        names = self._names[: _LARGE if large else _SHOWN]
        cells = Markup("").join(self._cell(name, record, parent) for name in names)
        more = len(self._names) - len(names)
        rest = Markup('<span class="tb-more">and {} more</span>').format(more) if more else ""
        return Markup('<span class="tb">{}{}</span>').format(cells, rest)

    def _cell(self, name: str, record: Mapping[str, Any], parent: Mapping[str, Any] | None) -> Markup:
        value = shown(record[name])
        if parent is None or parent[name] == record[name]:
            return Markup('<span><span class="tb-k">{}</span> {}</span>').format(name, value)
        before = shown(parent[name])
        return Markup('<span><span class="tb-k">{}</span> <mark>{}</mark> <s>{}</s></span>').format(name, value, before)

    def alt(self, record: Mapping[str, Any]) -> str:
        """Returns the first values of a row."""
        values = ", ".join(f"{name} {shown(record[name])}" for name in self._names[:3])
        return f"row {record['candidate_id']}: {values}"

    def gallery(
        self, records: Sequence[Mapping[str, Any]], link: Callable[[Mapping[str, Any], Markup], Markup]
    ) -> Markup:
        """Returns a table of rows. The number of a row links to its lineage."""
        from pe_beam.report import html

        names = self._names[:_SHOWN]
        rows = [
            [link(record, Markup("{}").format(record["candidate_id"])), *(shown(record[name]) for name in names)]
            for record in records
        ]
        return html.table(["row", *names], rows, caption=f"{len(rows)} rows")

    def sections(self, history: History) -> Sequence[Section]:
        """Returns marginals, associations and sorted rows of the release."""
        from pe_beam.contracts.view import Section

        made = [
            Section(key="columns", title="Columns", lead="How each column changed.", body=self._marginals(history)),
            Section(
                key="rows",
                title="Rows",
                lead="Rows of the newest population, in the order of the column that you choose."
                + _repeats(history)
                + _balance(history),
                body=self._rows(history),
            ),
        ]
        if len(self._names) > 1:
            lead = "How strongly two columns of the newest population go together, from 0 to 1."
            made.insert(1, Section(key="pairs", title="Pairs of columns", lead=lead, body=self._pairs(history)))
        return made

    def _marginals(self, history: History) -> Markup:
        from pe_beam.report import html

        steps = sorted({0, history.last // 2, history.last})
        shares = {t: column_shares(history.population(t, self._names), self._schema) for t in steps}
        names = self._names[:_CHARTS]
        charts = Markup("").join(self._marginal(name, {t: shares[t][name] for t in steps}) for name in names)
        more = len(self._names) - len(names)
        note = html.tag("p", f"{more} more columns are not drawn.", class_="muted") if more else Markup("")
        return Markup('<div class="grid">{}</div>{}').format(charts, note)

    def _marginal(self, name: str, shares: Mapping[int, np.ndarray]) -> Markup:
        from pe_beam.report import charts, html

        column = self._schema.columns[name]
        bins = len(next(iter(shares.values())))
        if column.choices:
            ticks = [*column.choices, "missing"]
        else:
            edges = np.linspace(column.low, column.high, bins)
            edges = edges if column.edges is None else column.unscaled(np.linspace(0, 1, bins))
            ticks = [f"{_end(a, column)} to {_end(b, column)}" for a, b in itertools.pairwise(edges)] + ["missing"]
        if not column.missing:
            ticks = ticks[:-1]
        colours = [charts.GRID, charts.MUTED, charts.ACCENT][-len(shares) :]

        def paint(axes: Any) -> None:
            for (t, values), colour in zip(shares.items(), colours, strict=True):
                axes.step(range(len(ticks)), values[: len(ticks)], where="mid", color=colour, label=f"iteration {t}")
            axes.set_ylim(bottom=0)
            axes.set_xticks([0, len(ticks) - 1], [ticks[0][:18], ticks[-1][:18]])
            axes.set_ylabel("share")
            axes.legend()

        picture = charts.draw(paint, title=f"Column {name}", desc="Shares of its values, by iteration.")
        heads = ["value", *(f"iteration {t}" for t in shares)]
        exact = [
            [tick, *(html.number(100 * float(shares[t][i]), 1) + " %" for t in shares)] for i, tick in enumerate(ticks)
        ]
        return html.figure(picture, name, data=html.table(heads, exact, caption=f"Shares of {name}"))

    def _pairs(self, history: History) -> Markup:
        names = self._names[:_PAIRED]
        strength = associations_of(history.population(history.last, self._names), self._schema)
        head = Markup("").join(Markup('<th scope="col"><span>{}</span></th>').format(name) for name in names)
        body = Markup("").join(
            Markup('<tr><th scope="row">{}</th>{}</tr>').format(
                name,
                Markup("").join(
                    Markup('<td style="--v:{}">{}</td>').format(round(100 * strength[i, j]), f"{strength[i, j]:.2f}")
                    for j in range(len(names))
                ),
            )
            for i, name in enumerate(names)
        )
        caption = "Correlation of numbers without its sign; Cramer's V, less chance, where a column has no order"
        return Markup(
            '<div class="scroll" tabindex="0" role="region" aria-label="Pairs of columns"><table class="tb-pairs">'
            "<caption>{}</caption><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>"
        ).format(caption, head, body)

    def _rows(self, history: History) -> Markup:
        """Returns rows that CSS alone sorts: a choice selects which of a row's ranks is its order."""
        table = history.population(history.last, ["candidate_id", "label", *self._names])
        table = table.take(np.arange(0, table.num_rows, -(-table.num_rows // _ROWS)))  # at even steps: all labels
        names = [*(["label"] if history.labels != [None] else []), *self._names][:_SORTED]
        keys = [self._ranks(table, name) for name in names]
        chosen = Markup("").join(
            Markup('<label><input type="radio" name="tb-sort" class="tb-by{}"{}> {}</label> ').format(
                i, Markup(" checked") if i == 0 else "", name
            )
            for i, name in enumerate(names)
        )
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in names)
        records = table.select(names).to_pylist()
        body = Markup("").join(
            Markup('<tr style="{}">{}</tr>').format(
                ";".join(f"--o{i}:{ranks[row]}" for i, ranks in enumerate(keys)),
                Markup("").join(Markup("<td>{}</td>").format(shown(record[name])) for name in names),
            )
            for row, record in enumerate(records)
        )
        return Markup(
            '<div class="tb-sorted"><fieldset><legend>Sort by</legend>{}</fieldset>'
            '<div class="scroll" tabindex="0" role="region" aria-label="Rows"><table><caption>{} rows</caption>'
            "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div></div>"
        ).format(chosen, len(records), head, body)

    def _ranks(self, table: pa.Table, name: str) -> list[int]:
        values = table[name].to_pylist()
        if name in self._schema.columns:
            codes = encode_payload(table, self._schema)[:, self._names.index(name)]
            order = np.argsort(np.where(np.isnan(codes), np.inf, codes), kind="stable")
        else:
            order = np.array(sorted(range(len(values)), key=lambda i: str(values[i])))
        ranks = np.empty(len(values), dtype=int)
        ranks[order] = np.arange(len(values))
        return [int(rank) for rank in ranks]

    def css(self) -> str:
        """See View."""
        orders = "".join(f".tb-sorted:has(.tb-by{i}:checked) tbody tr{{order:var(--o{i})}}" for i in range(_SORTED))
        return _STYLE + orders


_STYLE = """.tb{display:flex;flex-wrap:wrap;gap:2px 18px;font-size:.88rem}
.tb-k,.tb-more{color:var(--muted)}.tb mark{background:var(--accent-soft);color:inherit;padding:0 3px;border-radius:3px}
.tb s{color:var(--muted)}
.tb-pairs td{text-align:right;font-variant-numeric:tabular-nums;padding:4px 8px;
background:color-mix(in srgb,var(--accent-soft) calc(var(--v)*1%),transparent)}
.tb-sorted fieldset{border:1px solid var(--line);border-radius:8px;margin:0 0 1em}
.tb-sorted fieldset{display:flex;flex-wrap:wrap;gap:4px 16px}
.tb-sorted tbody{display:flex;flex-direction:column}
.tb-sorted thead{display:block}
.tb-sorted tr{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(7em,1fr)}
"""


def shown(value: Any) -> str:
    """Returns a value for a reader: six digits of a float, all of them if it has few, a dash for a missing value."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    whole = f"{value:.12g}"
    return whole if len(whole) <= _FEW else f"{value:.6g}"


def _repeats(history: History) -> str:
    """Returns a sentence on rows that repeat, if the newest manifest says how many do."""
    told = history.manifest(history.last).get("repeats")
    if told is None:
        return ""
    most = "none is there twice" if told["most_equal"] == 1 else f"none is there more than {told['most_equal']} times"
    return (
        f" {told['distinct']} of {told['rows']} are distinct, and {most}; "
        f"of as many rows that the measured marginals alone give, {told['modelled_distinct']} are distinct."
    )


def _balance(history: History) -> str:
    """Returns a sentence on the draw of the newest rows, if its manifest says that it was balanced."""
    told = history.manifest(history.last).get("selection", {}).get("balance")
    if told is None:
        return ""
    before, after = told["beyond_noise"]
    said = (
        f" {told['replaced']} times a drawn row gave way to another one, so that columns are as measured: beyond the "
        f"noise they were out by {before:.1%} of the rows on average, and are by {after:.1%}."
    )
    settled = history.manifest(history.last).get("settled")
    if settled is None:
        return said
    before, after = settled["beyond"]
    return (
        f"{said} Then values of {settled['rows']} variations were moved, and single columns came from {before:.1%} to "
        f"{after:.1%} of the rows."
    )


def _end(code: float, column: Column) -> str:
    """Returns an edge of a bin as text."""
    if column.type == "date":
        return str(date.fromordinal(date(1970, 1, 1).toordinal() + round(code)))
    if column.type == "datetime":
        return datetime.fromtimestamp(round(code), UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{code:.6g}"


def associations_of(table: pa.Table, schema: TableSchema) -> np.ndarray:
    """Returns the association of each pair of the first columns, 0 to 1: float64 (m, m)."""
    codes = encode_payload(table, schema)
    columns = list(schema.columns.values())[:_PAIRED]
    bins, sizes = [], []
    for i, column in enumerate(columns):
        size = len(column.choices) or 19
        place = codes[:, i] if column.choices else column.scaled(codes[:, i]) * size
        codes[:, i] = codes[:, i] if column.edges is None else column.scaled(codes[:, i])
        bins.append(np.where(np.isnan(place), size, np.clip(np.nan_to_num(place), 0, size - 1)).astype(np.int64))
        sizes.append(size + 1)
    found = np.eye(len(columns))
    for i in range(len(columns)):
        for j in range(i):
            if columns[i].moves and columns[j].moves:
                found[i, j] = found[j, i] = abs(pearson(codes[:, i], codes[:, j]))
            else:
                found[i, j] = found[j, i] = cramers_v(bins[i], bins[j], (sizes[i], sizes[j]))
    return found
