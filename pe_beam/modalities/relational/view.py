"""Families in a report: a parent's row with its children below it, and the columns of both tables by iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from pe_beam.contracts.view import View
from pe_beam.modalities.relational.codec import rows_of
from pe_beam.modalities.relational.schema import RelationalSchema
from pe_beam.modalities.tabular.view import TableView, shown

if TYPE_CHECKING:
    from pe_beam.contracts.view import History, Section

_SHOWN, _COLUMNS = 4, 12


class FamilyView(View):
    """Shows families: the parent's columns, and a line for each child."""

    tile = False
    gallery_size = 6

    def __init__(self, schema: RelationalSchema) -> None:
        """Takes the declared schema."""
        self._schema = schema
        self._parent, self._child = TableView(schema.parent_with_count), TableView(schema.child)

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Returns the HTML of a family. Values of the parent's row that have changed are marked, and new children."""
        above = self._parent.fragment(
            self._with_count(record), None if parent is None else self._with_count(parent), large=large
        )
        children = record[self._schema.child.name] or []
        before = None if parent is None else list(parent[self._schema.child.name] or [])
        lines = Markup("").join(
            self._line(child, is_new=before is not None and child not in before)
            for child in (children if large else children[:_SHOWN])
        )
        more = 0 if large else len(children) - _SHOWN
        rest = Markup('<span class="tb-more">and {} more</span>').format(more) if more > 0 else ""
        return Markup('<span class="fm">{}<span class="fm-c">{}{}</span></span>').format(above, lines, rest)

    def _line(self, child: Mapping[str, Any], *, is_new: bool) -> Markup:
        names = list(self._schema.child.columns)[:_COLUMNS]
        text = Markup(" · ").join(shown(child[name]) for name in names)
        return Markup('<span class="fm-r"><mark>{}</mark></span>' if is_new else '<span class="fm-r">{}</span>').format(
            text
        )

    def _with_count(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return {**record, self._schema.count: len(record[self._schema.child.name] or [])}

    def alt(self, record: Mapping[str, Any]) -> str:
        """Returns the first values of the parent's row, and the number of children."""
        return f"{self._parent.alt(record)}, {len(record[self._schema.child.name] or [])} {self._schema.child.name}"

    def sections(self, history: History) -> Sequence[Section]:
        """Returns marginals and associations of both tables, and rows of the parent table that can be sorted."""
        above = self._parent.sections(_Table(history, self._parents))
        below = self._child.sections(_Table(history, self._children))
        made = [
            replace(each, key=f"parent-{each.key}", title=f"{each.title} of {self._schema.parent.name}")
            for each in above
        ]
        return made + [
            replace(each, key=f"child-{each.key}", title=f"{each.title} of {self._schema.child.name}")
            for each in below
            if each.key != "rows"  # the report shows children below their parents
        ]

    def _parents(self, population: pa.Table) -> pa.Table:
        counts = pc.fill_null(pc.list_value_length(population[self._schema.child.name]), 0)
        return population.append_column(self._schema.count, counts.cast(pa.int64()))

    def _children(self, population: pa.Table) -> pa.Table:
        lists = population[self._schema.child.name].combine_chunks()
        rows = rows_of(lists, self._schema.child)
        owners = pc.list_parent_indices(lists)
        for name in ("label", "candidate_id"):
            rows = rows.add_column(0, name, population[name].combine_chunks().take(owners))
        return rows

    def css(self) -> str:
        """See View."""
        return self._parent.css() + _STYLE


class _Table:
    """A `History` whose populations are rows of one of the two tables."""

    def __init__(self, history: History, part: Callable[[pa.Table], pa.Table]) -> None:
        self._history, self._part = history, part
        self.recipe, self.privacy, self.complete = history.recipe, history.privacy, history.complete
        self.iterations, self.last, self.labels = history.iterations, history.last, history.labels

    def manifest(self, iteration: int) -> dict[str, Any]:
        """See History."""
        return self._history.manifest(iteration)

    def population(self, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
        """See History."""
        table = self._part(self._history.population(iteration))
        return table if columns is None else table.select(list(columns))

    def records(self, iteration: int, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """See History."""
        return self._history.records(iteration, ids)

    def histogram(self, iteration: int) -> pa.Table:
        """See History."""
        return self._history.histogram(iteration)


_STYLE = """.fm{display:block}
.fm-c{display:block;margin:2px 0 0 1.2em;border-left:2px solid var(--line);padding-left:.8em}
.fm-r{display:block;font-size:.85rem}.fm-r mark{background:var(--accent-soft);color:inherit}
"""
