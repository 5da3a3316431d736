"""Embedder `tabular`: maps a row to a point, as in Tab-PE (arXiv 2606.08259)."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding, group_bins
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.record import Fault
from pe_beam.errors import RecipeError
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.marginals import bin_of, slice_of, slices_of
from pe_beam.modalities.tabular.schema import as_schema

MAX_DIMENSION = 20_000


class TabularEmbedderOptions(contracts.Options):
    """Options of the embedder `tabular`. Weights of single columns are the schema's."""

    one_hot: float = Field(1 / 3, gt=0, le=100, description="value of a category's own coordinate")
    hashed: Annotated[int | None, NEWER] = Field(
        None,
        ge=32,
        le=4096,
        description="coordinates of a categorical column with more values than that: a public pattern of signs for "
        "each value instead of a coordinate of its own; distances between two values then vary by 1 / sqrt(hashed)",
    )


class TabularEmbedder(contracts.Embedder):
    """Maps a number, date or ordinal to (x - min) / (max - min), a category or boolean to one-hot times `one_hot`.

    A number with `log_from` is mapped to its place among bins by ratio (`Column.scaled`).

    A column that may be missing has one more coordinate, which is `one_hot` if the value is missing; the number is
    then 0.5. All coordinates of a column are multiplied by its weight. With `hashed`, a category of a column with more
    values than that is a pattern of signs, of the same norm as a one-hot. The pattern depends only on the names of
    column and value. A vector does not contain the label, because votes go to candidates of the same label.
    """

    modality = "tabular"
    Options: ClassVar[type[contracts.Options]] = TabularEmbedderOptions
    takes_schema = True

    def __init__(self, options: BaseModel, *, schema: Any) -> None:
        """Takes TabularEmbedderOptions and a TableSchema. Raises RecipeError if vectors would be too long."""
        own = TabularEmbedderOptions.model_validate(options.model_dump())
        self._one_hot = own.one_hot
        self._schema = as_schema(schema)
        self._columns = list(self._schema.columns.values())
        self._patterns = {
            i: _Patterns(name, column, own.hashed)
            for i, (name, column) in enumerate(self._schema.columns.items())
            if own.hashed is not None and not column.moves and len(column.choices) > own.hashed
        }
        widths = [self._width(i) for i in range(len(self._columns))]
        self._starts = np.concatenate([[0], np.cumsum(widths)]).astype(int)
        self.dimension = int(self._starts[-1])
        if self.dimension > MAX_DIMENSION:
            raise RecipeError(
                f"data.schema: rows become vectors of {self.dimension}; {MAX_DIMENSION} at most are allowed "
                "(embedder.hashed: 64 makes categorical columns of many values shorter)"
            )

    def _width(self, i: int) -> int:
        column = self._columns[i]
        own = self._patterns[i].size if i in self._patterns else len(column.choices)
        return (1 if column.moves else own) + int(column.missing)

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
            scaled = column.scaled(np.where(missing, column.low, values))
            vectors[:, at] = column.weight * np.where(missing, 0.5, scaled)
            at += 1
        else:
            rows = np.flatnonzero(~missing & (values >= 0) & (values < len(column.choices)))
            positions = values[rows].astype(np.int64)
            if i in self._patterns:
                size = self._patterns[i].size
                length = column.weight * self._one_hot / np.sqrt(size)
                vectors[rows, at : at + size] = length * self._patterns[i].signs(positions)
            else:
                size = len(column.choices)
                vectors[rows, at + positions] = column.weight * self._one_hot
            at += size
        if column.missing:
            vectors[missing, at] = column.weight * self._one_hot

    def marginal_sizes(self) -> dict[str, int]:
        """See Embedder. The last bin of a column that may be missing is the bin of missing values."""
        return {name: column.marginal_bins + int(column.missing) for name, column in self._schema.columns.items()}

    def marginal_groups(self, most: int) -> dict[str, np.ndarray]:
        """See Embedder. The bin of missing values is a group of its own."""
        groups = {}
        for name, column in self._schema.columns.items():
            own = group_bins(column.marginal_bins, most)
            groups[name] = np.append(own, own[-1] + 1) if column.missing else own
        return groups

    def marginal_ordered(self) -> dict[str, int]:
        """See Embedder."""
        return {name: column.marginal_bins if column.moves else 0 for name, column in self._schema.columns.items()}

    def marginal_bins(self, vectors: np.ndarray) -> np.ndarray:
        """See Embedder. A number at the edge of a bin may be in either bin, but it is in exactly one."""
        found = np.empty((len(vectors), len(self._columns)), dtype=np.int64)
        for i, column in enumerate(self._columns):
            own = vectors[:, self._starts[i] : self._starts[i + 1]]
            if column.moves:
                found[:, i] = bin_of(self._codes(vectors, i), column)
                continue
            if i in self._patterns:
                bins = self._patterns[i].positions(own)
            else:
                bins = own[:, : len(column.choices)].argmax(axis=1)
            if column.missing:
                bins[self._missing(vectors, i)] = column.marginal_bins
            found[:, i] = bins
        return found

    def marginal_slices(self) -> dict[str, int]:
        """See Embedder."""
        return {name: slices_of(column) for name, column in self._schema.columns.items() if column.roomy}

    def sliced_bins(self, vectors: np.ndarray) -> np.ndarray:
        """See Embedder."""
        roomy = [i for i, column in enumerate(self._columns) if column.roomy]
        found = np.empty((len(vectors), len(roomy)), dtype=np.int64)
        for place, i in enumerate(roomy):
            found[:, place] = slice_of(self._codes(vectors, i), self._columns[i])
        return found

    def _codes(self, vectors: np.ndarray, i: int) -> np.ndarray:
        """Returns the codes of a column that lies in an order, float64 (n,); NaN for missing values."""
        column = self._columns[i]
        scaled = vectors[:, self._starts[i]].astype(np.float64) / column.weight
        codes = column.nearest(column.unscaled(scaled))
        if column.missing:
            codes[self._missing(vectors, i)] = np.nan
        return codes

    def _missing(self, vectors: np.ndarray, i: int) -> np.ndarray:
        """Returns in which vectors the value of a column that may be missing is missing, bool (n,)."""
        last = vectors[:, self._starts[i + 1] - 1].astype(np.float64)
        found: np.ndarray = last / self._columns[i].weight > self._one_hot / 2
        return found


class _Patterns:
    """Patterns of signs for each value of a column, pseudo-random and public: SHAKE-256 of column and value."""

    def __init__(self, name: str, column: Column, size: int) -> None:
        self.size = size
        count = (size + 7) // 8
        head = _framed("pe_beam/hashed/1") + _framed(name)
        raw = [hashlib.shake_256(head + _framed(value)).digest(count) for value in column.choices]
        bits = np.unpackbits(np.frombuffer(b"".join(raw), np.uint8).reshape(len(raw), count), axis=1)[:, :size]
        self._bits = np.packbits(bits, axis=1)
        self._order = np.argsort(self._keys(self._bits), kind="stable")
        self._sorted = self._keys(self._bits)[self._order]
        if (self._sorted[1:] == self._sorted[:-1]).any():
            raise RecipeError(f"embedder.hashed: two values of column {name!r} have one pattern of {size}; take more")

    def _keys(self, packed: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(packed).view(f"S{packed.shape[1]}").ravel()

    def signs(self, positions: np.ndarray) -> np.ndarray:
        """Maps positions of values, int64 (n,), to -1.0 and 1.0, float64 (n, size)."""
        return 2.0 * np.unpackbits(self._bits[positions], axis=1)[:, : self.size] - 1.0

    def positions(self, own: np.ndarray) -> np.ndarray:
        """Maps a column's coordinates to positions of the values, int64 (n,); any position for a missing value."""
        keys = self._keys(np.packbits(own[:, : self.size] > 0, axis=1))
        return self._order[np.minimum(np.searchsorted(self._sorted, keys), len(self._order) - 1)]


def _framed(text: str) -> bytes:
    """Returns a text with its length before it, so that different sequences of texts give different bytes."""
    raw = text.encode()
    return len(raw).to_bytes(8, "big") + raw


def _fits(values: np.ndarray, column: Column) -> np.ndarray:
    within: np.ndarray = (values >= column.low) & (values <= column.high)
    return within | np.isnan(values) if column.missing else within
