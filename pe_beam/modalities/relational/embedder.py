"""Embedder `relational`: maps a family to the point of its parent, its number of children, and theirs in order."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding, group_bins
from pe_beam.contracts.record import Fault
from pe_beam.errors import RecipeError
from pe_beam.modalities.relational.codec import encode, rows_of
from pe_beam.modalities.relational.schema import as_schema
from pe_beam.modalities.tabular.embedder import MAX_DIMENSION, TabularEmbedder, TabularEmbedderOptions

LEAST_PARTS = 12
"""Parts that a family counts in, at the least: then 1, 2, 3, 4, 6 and 12 children have equal shares."""


class RelationalEmbedderOptions(contracts.Options):
    """Options of the embedder `relational`. Weights of single columns are the schema's."""

    one_hot: float = Field(1 / 3, gt=0, le=100, description="value of a category's own coordinate")
    children: float = Field(
        1.0, gt=0, le=100, description="how much all children together count in distances, against the parent"
    )


class RelationalEmbedder(contracts.Embedder):
    """Maps the parent and each child as `tabular` does.

    The number of children is n / most, times `children`. Children have one place each, in their order; a place without
    a child is zero, and one with a child has 1 as its first coordinate. All coordinates of a place are multiplied by
    `children` / sqrt(most), so that the children of two full families together are about as far apart as two parents.

    In marginals a family counts in equal parts, which its children share as evenly as whole numbers can: whatever the
    number of children, it counts alike.
    """

    modality = "relational"
    Options: ClassVar[type[contracts.Options]] = RelationalEmbedderOptions
    takes_schema = True

    def __init__(self, options: BaseModel, *, schema: Any) -> None:
        """Takes RelationalEmbedderOptions and a RelationalSchema. Raises RecipeError if vectors would be too long."""
        own = RelationalEmbedderOptions.model_validate(options.model_dump())
        self._schema = as_schema(schema)
        both = TabularEmbedderOptions(one_hot=own.one_hot)
        self._parent = TabularEmbedder(both, schema=self._schema.parent)
        self._child = TabularEmbedder(both, schema=self._schema.child)
        self._most = self._schema.child.most
        self._of_count, self._of_child = own.children, own.children / np.sqrt(self._most)
        self._width = 1 + self._child.dimension
        self.dimension = self._parent.dimension + 1 + self._most * self._width
        if self.dimension > MAX_DIMENSION:
            raise RecipeError(
                f"data.schema: families become vectors of {self.dimension}; {MAX_DIMENSION} at most are allowed "
                "(a smaller child.most, or fewer categories, make them shorter)"
            )
        self.marginal_parts = max(LEAST_PARTS, self._most)

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds parents and children. A family with a value that is not declared is a fault."""
        families = encode(records, self._schema)
        parents = self._parent.embed(records)
        rows = self._child.embed(rows_of(records[self._schema.child.name].combine_chunks(), self._schema.child))
        faults: dict[int, Fault] = dict(parents.faults)
        for row, fault in sorted(rows.faults.items()):
            faults.setdefault(int(families.owners[row]), Fault(f"{self._schema.child.name}: {fault.kind}"))
        for row in np.flatnonzero(families.counts > self._most).tolist():
            faults.setdefault(row, Fault("more children than declared"))
        slots = np.zeros((len(families.counts), self._most, self._width), dtype=np.float32)
        fits = families.places < self._most
        slots[families.owners[fits], families.places[fits], 0] = self._of_child
        slots[families.owners[fits], families.places[fits], 1:] = self._of_child * rows.vectors[fits]
        counts = (self._of_count * families.counts / self._most).astype(np.float32)[:, None]
        vectors = np.hstack([parents.vectors, counts, slots.reshape(len(slots), self._most * self._width)])
        vectors[sorted(faults)] = 0
        return Embedding(vectors, faults)

    def marginal_sizes(self) -> dict[str, int]:
        """See Embedder: the parent's columns, the number of children, the child's columns.

        The last bin of a child's column is that of families without children.
        """
        child = dict(zip(self._schema.columns_of_children, self._child.marginal_sizes().values(), strict=True))
        return {
            **self._parent.marginal_sizes(),
            self._schema.count: self._most + 1,
            **{name: size + 1 for name, size in child.items()},
        }

    def marginal_groups(self, most: int) -> dict[str, np.ndarray]:
        """See Embedder. Numbers of children are in groups of neighbours; no children are a group of their own."""
        counts = np.concatenate([[0], 1 + group_bins(self._most, most - 1)])
        child = zip(self._schema.columns_of_children, self._child.marginal_groups(most).values(), strict=True)
        return {
            **self._parent.marginal_groups(most),
            self._schema.count: counts,
            **{name: np.append(groups, groups[-1] + 1) for name, groups in child},
        }

    def marginal_bins(self, vectors: np.ndarray) -> np.ndarray:
        """See Embedder. A family of n children gives each of them 1/n of its parts, rounded down or up."""
        width, parts = self._parent.dimension, self.marginal_parts
        parents = self._parent.marginal_bins(vectors[:, :width])
        counts = np.rint(vectors[:, width].astype(np.float64) / self._of_count * self._most)
        counts = np.clip(counts, 0, self._most).astype(np.int64)
        slots = vectors[:, width + 1 :].reshape(len(vectors), self._most, self._width)
        rows = slots[:, :, 1:].reshape(-1, self._width - 1).astype(np.float64) / self._of_child
        bins = self._child.marginal_bins(rows).reshape(len(vectors), self._most, len(self._schema.child.columns))
        whose = np.arange(parts) * counts[:, None] // parts  # (n, parts)
        children = np.take_along_axis(bins, whose[:, :, None], axis=1)
        nothing = np.array(list(self._child.marginal_sizes().values()))
        children = np.where((counts == 0)[:, None, None], nothing, children)
        above = np.repeat(np.hstack([parents, counts[:, None]]), parts, axis=0)
        return np.hstack([above, children.reshape(len(above), children.shape[2])])
