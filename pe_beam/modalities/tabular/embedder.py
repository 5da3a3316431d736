"""Embedder `tabular`: a row as a point, as in Tab-PE (arXiv 2606.08259)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam.errors import RecipeError
from pe_beam.modalities import base
from pe_beam.modalities.base import Embedding, Fault
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.marginals import bin_of
from pe_beam.modalities.tabular.schema import Column, as_schema

MAX_DIMENSION = 20_000


class TabularEmbedderOptions(base.Options):
    """Options of the embedder `tabular`. Weights of single columns are the schema's."""

    one_hot: float = Field(1 / 3, gt=0, le=100, description="value of a category's own coordinate")


class TabularEmbedder(base.Embedder):
    """A number, date or ordinal is (x - min) / (max - min); a category or boolean one-hot times `one_hot`.

    A column that may be missing has a coordinate more, `one_hot` where it is; the number then lies in the middle. All
    of a column is multiplied by its weight. Labels are no part of a vector: votes go to candidates of the same label.
    """

    modality = "tabular"
    Options: ClassVar[type[base.Options]] = TabularEmbedderOptions
    takes_schema = True

    def __init__(self, options: BaseModel, *, schema: Any) -> None:
        """Takes TabularEmbedderOptions and a TableSchema; raises RecipeError where vectors would be too long."""
        self._one_hot = TabularEmbedderOptions.model_validate(options.model_dump()).one_hot
        self._schema = as_schema(schema)
        self._columns = list(self._schema.columns.values())
        widths = [_width(column) for column in self._columns]
        self._starts = np.concatenate([[0], np.cumsum(widths)]).astype(int)
        self.dimension = int(self._starts[-1])
        if self.dimension > MAX_DIMENSION:
            raise RecipeError(
                f"data.schema: rows become vectors of {self.dimension}; {MAX_DIMENSION} at most are allowed"
            )

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the schema's columns."""
        codes = encode_payload(records, self._schema)
        vectors = np.zeros((len(codes), self.dimension), dtype=np.float32)
        faults: dict[int, Fault] = {}
        for i, (name, column) in enumerate(self._schema.columns.items()):
            values = codes[:, i]
            for row in np.flatnonzero(~_fits(values, column)).tolist():
                faults.setdefault(row, Fault(f"column {name}: value that is not declared"))
            self._place(vectors, values, i)
        vectors[sorted(faults)] = 0
        return Embedding(vectors, faults)

    def _place(self, vectors: np.ndarray, values: np.ndarray, i: int) -> None:
        column, at = self._columns[i], int(self._starts[i])
        missing = np.isnan(values)
        if column.moves:
            width = column.high - column.low
            scaled = (np.where(missing, column.low, values) - column.low) / (width or 1.0)
            vectors[:, at] = column.weight * np.where(missing, 0.5, scaled)
            at += 1
        else:
            rows = np.flatnonzero(~missing & (values >= 0) & (values < len(column.choices)))
            vectors[rows, at + values[rows].astype(np.int64)] = column.weight * self._one_hot
            at += len(column.choices)
        if column.missing:
            vectors[missing, at] = column.weight * self._one_hot

    def marginal_sizes(self) -> dict[str, int]:
        """See Embedder; the last bin of a column that may be missing is that of missing values."""
        return {name: column.marginal_bins + int(column.missing) for name, column in self._schema.columns.items()}

    def marginal_bins(self, vectors: np.ndarray) -> np.ndarray:
        """See Embedder. A number that lies at a bin's edge may fall on either side of it, but into one bin."""
        found = np.empty((len(vectors), len(self._columns)), dtype=np.int64)
        for i, (column, size) in enumerate(zip(self._columns, self.marginal_sizes().values(), strict=True)):
            own = vectors[:, self._starts[i] : self._starts[i + 1]].astype(np.float64) / column.weight
            if column.moves:
                codes = column.low + own[:, 0] * (column.high - column.low)
                codes = np.round(codes) if column.whole else codes
            else:
                codes = own[:, : len(column.choices)].argmax(axis=1).astype(np.float64)
            if column.missing:
                codes[own[:, -1] > self._one_hot / 2] = np.nan
            found[:, i] = np.clip(bin_of(codes, column), 0, size - 1)
        return found


def _width(column: Column) -> int:
    return (1 if column.moves else len(column.choices)) + int(column.missing)


def _fits(values: np.ndarray, column: Column) -> np.ndarray:
    within: np.ndarray = (values >= column.low) & (values <= column.high)
    return within | np.isnan(values) if column.missing else within
