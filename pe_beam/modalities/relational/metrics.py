"""Metrics of two tables: marginals within each, across both, and of children of one parent. All of them are private."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.modalities.likened import likened
from pe_beam.modalities.relational.codec import encode
from pe_beam.modalities.relational.schema import RelationalSchema, as_schema
from pe_beam.modalities.tabular.comparing import grid_of, shares, size_of

Binned = tuple[np.ndarray, int]
"""Bins of a column, int64 (n,), and their number."""


def marginal_distances(comparison: Comparison) -> Measured:
    """Returns total variation distances of marginals: means over pairs of columns of both tables, 0 to 1.

    Pairs across both tables are over rows of the child table, each with its parent's values. Siblings are children that
    follow each other, by the same column. Numbers have a grid of 19 bins between their bounds.
    """
    schema = as_schema(comparison.recipe["data"]["schema"])
    made, real = (_Both(table, schema) for table in (likened(comparison).samples, comparison.held_out))
    across = {
        f"{a} and {schema.child.name}.{b}": _distance(made.across(a, b), real.across(a, b))
        for a, b in itertools.product(schema.parent.columns, schema.child.columns)
    }
    worst = dict(sorted(across.items(), key=lambda item: -item[1])[:30])
    figures = {
        "tvd_parent_1way": _mean(_distance([made.parent[a]], [real.parent[a]]) for a in schema.parent.columns),
        "tvd_parent_2way": _mean(
            _distance([made.parent[a], made.parent[b]], [real.parent[a], real.parent[b]])
            for a, b in itertools.combinations(schema.parent.columns, 2)
        ),
        "tvd_child_1way": _mean(_distance([made.child[a]], [real.child[a]]) for a in schema.child.columns),
        "tvd_child_2way": _mean(
            _distance([made.child[a], made.child[b]], [real.child[a], real.child[b]])
            for a, b in itertools.combinations(schema.child.columns, 2)
        ),
        "tvd_across_2way": _mean(across.values()),
        "tvd_siblings_2way": _mean(_distance(made.siblings(a), real.siblings(a)) for a in schema.child.columns),
        "tvd_number_of_children": _distance([made.counts], [real.counts]),
    }
    chart = Series(
        title="Total variation distance by pair of columns across both tables (0: equal, 1: nothing in common)",
        x=list(worst),
        y={"samples": list(worst.values())},
        x_title="pair of columns",
    )
    return Measured(figures={name: value for name, value in figures.items() if value is not None}, series=[chart])


class _Both:
    """The bins of both tables."""

    def __init__(self, table: pa.Table, schema: RelationalSchema) -> None:
        families = encode(table, schema)
        self._owners = families.owners
        self.counts: Binned = families.counts, schema.child.most + 1
        self.parent, self.child = (
            {
                name: (grid_of(codes[:, i], column), size_of(column))
                for i, (name, column) in enumerate(columns.columns.items())
            }
            for codes, columns in ((families.parents, schema.parent), (families.children, schema.child))
        )

    def across(self, a: str, b: str) -> list[Binned]:
        """Returns a parent's and a child's column by rows of the child table."""
        bins, size = self.parent[a]
        return [(bins[self._owners], size), self.child[b]]

    def siblings(self, name: str) -> list[Binned]:
        """Returns a column of children, and of the next child of the same parent."""
        bins, size = self.child[name]
        same = self._owners[1:] == self._owners[:-1]
        return [(bins[:-1][same], size), (bins[1:][same], size)]


def _distance(made: list[Binned], real: list[Binned]) -> float:
    """Returns the total variation distance of joint marginals; 1 if one side alone has no rows."""
    cells = [_joint(each) for each in (made, real)]
    if not all(len(bins) for bins, _ in cells):
        return float(len(cells[0][0]) != len(cells[1][0]))
    a, b = (shares(bins, size) for bins, size in cells)
    return 0.5 * float(np.abs(a - b).sum())


def _joint(columns: list[Binned]) -> Binned:
    found, total = columns[0]
    for bins, size in columns[1:]:
        found, total = found * size + bins, total * size
    return found, total


def _mean(values: Iterable[float]) -> float | None:
    """Returns the mean, or None of no values: a table of one column has no pairs."""
    found = list(values)
    return float(np.mean(found)) if found else None


METRICS = (marginal_distances,)
