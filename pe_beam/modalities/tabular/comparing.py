"""What the metrics of tables share: codes and bins of the tables that are compared, and bounded draws."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison
from pe_beam.modalities.likened import likened
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.schema import TableSchema, as_schema

GRID = 19
"""Number of bins of a number between its declared bounds, as in Tab-PE's evaluation (20 edges)."""


def schema_of(comparison: Comparison) -> TableSchema:
    """Returns the schema of the run's recipe."""
    return as_schema(comparison.recipe["data"]["schema"])


def coded(
    comparison: Comparison, tables: Sequence[pa.Table] | None = None
) -> tuple[list[Column | None], list[np.ndarray]]:
    """Returns columns (None: the label, if there are several labels), and codes of each table, float64 (n, m).

    Args:
      comparison: has schema and labels.
      tables: None: samples, and in their place no more training records than there are (`likened`), and held-out
        records.
    """
    schema, labels = schema_of(comparison), list(comparison.labels or [])
    tables = tables or [likened(comparison).samples, comparison.held_out]
    codes = [encode_payload(table, schema) for table in tables]
    columns: list[Column | None] = list(schema.columns.values())
    if len(labels) > 1:
        own = [[float(labels.index(label)) for label in table["label"].to_pylist()] for table in tables]
        codes = [np.column_stack([each, label]) for each, label in zip(codes, own, strict=True)]
        columns.append(None)
    return columns, codes


def binned(
    comparison: Comparison, tables: Sequence[pa.Table] | None = None
) -> tuple[list[str], list[np.ndarray], list[int]]:
    """Returns names, bins of each table as of `coded`, int64 (n, m), and numbers of bins, the label last.

    Missing values have a bin of their own, the last.
    """
    columns, codes = coded(comparison, tables)
    names = [*schema_of(comparison).columns, *(["label"] if columns[-1] is None else [])]
    bins = [np.empty(each.shape, dtype=np.int64) for each in codes]
    sizes = []
    for i, column in enumerate(columns):
        for made, each in zip(bins, codes, strict=True):
            made[:, i] = grid_of(each[:, i], column, labels=len(comparison.labels or []))
        sizes.append(size_of(column, labels=len(comparison.labels or [])))
    return names, bins, sizes


def size_of(column: Column | None, *, labels: int = 0) -> int:
    """Returns the number of bins of a column in comparisons, that of missing values included; None: the label."""
    return 1 + (labels if column is None else len(column.choices) or GRID)


def grid_of(codes: np.ndarray, column: Column | None, *, labels: int = 0) -> np.ndarray:
    """Returns the bins of a column's codes, int64 (n,). Missing values have the last one."""
    size = size_of(column, labels=labels) - 1
    values = codes
    if column is not None and not column.choices:
        values = np.floor(column.scaled(codes) * GRID)
    return np.where(np.isnan(values), size, np.clip(np.nan_to_num(values), 0, size - 1)).astype(np.int64)


def some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Returns all rows, or `most` random ones in their order."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(rng.choice(len(rows), most, replace=False))]


def shares(bins: np.ndarray, size: int) -> np.ndarray:
    """Returns the share of each bin, float64 (size,)."""
    return np.bincount(bins, minlength=size) / max(len(bins), 1)


def subsets(count: int, order: int, most: int, seed: int) -> tuple[list[tuple[int, ...]], list[str]]:
    """Returns all sets of columns of one size, or `most` random ones, the same for all populations; and a note."""
    if count > 200 or sum(1 for _ in itertools.islice(itertools.combinations(range(count), order), most + 1)) > most:
        rng = np.random.default_rng([seed, order])
        drawn = {tuple(sorted(rng.choice(count, order, replace=False).tolist())) for _ in range(most)}
        return sorted(drawn), [f"{order}-way figures: of {len(drawn)} sets of columns, drawn at random"]
    return list(itertools.combinations(range(count), order)), []
