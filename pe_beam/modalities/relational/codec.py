"""Converts families (a payload with a list of children) to codes of both tables and back, and gathers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.gathering import ClientContent, ClientTable
from pe_beam.contracts.record import Fault
from pe_beam.modalities.relational.schema import ChildSchema, RelationalSchema
from pe_beam.modalities.tabular.codec import TableContent, decode_payload, encode_payload

PARENT, CHILD = "parent", "child"
NO_PARENT = Fault("child rows whose key is in no row of the parent table")
TWO_PARENTS = Fault("key that comes more than once in the parent table")


@dataclass(frozen=True)
class Families:
    """Families as codes.

    Attributes:
      parents: float64 (n, columns of the parent table).
      counts: int64 (n,), numbers of children.
      children: float64 (sum of counts, columns of the child table), family by family.
    """

    parents: np.ndarray
    counts: np.ndarray
    children: np.ndarray

    @property
    def owners(self) -> np.ndarray:
        """Returns the position of each child's parent, int64 (sum of counts,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def places(self) -> np.ndarray:
        """Returns the place of each child among those of its parent, from 0: int64 (sum of counts,)."""
        return np.arange(len(self.children)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)


def encode(table: pa.Table, schema: RelationalSchema) -> Families:
    """Returns the families of a table that holds the payload."""
    children = table[schema.child.name].combine_chunks()
    counts = np.asarray(children.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    return Families(
        encode_payload(table, schema.parent), counts, encode_payload(rows_of(children, schema.child), schema.child)
    )


def rows_of(children: pa.ListArray, schema: ChildSchema) -> pa.Table:
    """Returns the rows of lists of children, one after another, as a table."""
    rows = children.flatten()
    return pa.table([rows.field(i) for i in range(len(schema.payload))], schema=schema.payload)


def decode(families: Families, schema: RelationalSchema) -> pa.Table:
    """Returns the payload of families, with each family's children in order."""
    children = families.children[_order(families, schema.child)]
    rows = decode_payload(children, schema.child)
    struct = pa.StructArray.from_arrays([column.combine_chunks() for column in rows.columns], fields=list(rows.schema))
    offsets = np.concatenate([[0], np.cumsum(families.counts)])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct)
    return decode_payload(families.parents, schema.parent).append_column(schema.payload.field(schema.child.name), lists)


def both_tables(samples: pa.Table, schema: RelationalSchema) -> dict[str, pa.Table]:
    """Returns the rows of both tables by their names. Families are numbered from 1 on in the columns of the keys.

    Args:
      samples: the payload of families, and maybe columns of their labels.
      schema: of both tables.
    """
    lists = samples[schema.child.name].combine_chunks()
    keys = pa.array(np.arange(1, len(samples) + 1))
    owners = keys.take(pc.list_parent_indices(lists))
    parents = samples.drop_columns([schema.child.name])
    return {
        schema.parent.name: parents.add_column(0, schema.parent.key, keys),
        schema.child.name: rows_of(lists, schema.child).add_column(0, schema.child.key, owners),
    }


def _order(families: Families, schema: ChildSchema) -> np.ndarray:
    """Returns positions of the children, family by family and in order: the column `order` first, then all columns."""
    keys = [families.children[:, i] for i in (*_leading(schema), *range(len(schema.columns)))]
    return np.lexsort([*keys[::-1], families.owners])


def _leading(schema: ChildSchema) -> list[int]:
    return [] if schema.order is None else [list(schema.columns).index(schema.order)]


@dataclass(frozen=True)
class RelationalContent(ClientContent):
    """Reads columns of two files as the schema declares them."""

    schema: RelationalSchema

    @property
    def payload(self) -> pa.Schema:
        """The parent's columns and the list of children."""
        return self.schema.payload

    @cached_property
    def tables(self) -> Mapping[str, ClientTable]:  # type: ignore[override]
        """See ClientContent."""
        parent, child = self.schema.parent, self.schema.child
        return {
            PARENT: ClientTable(TableContent(parent), 1, client=parent.key),
            CHILD: ClientTable(TableContent(child), child.most, "data.schema.child.most", client=child.key),
        }

    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """See Content. No column of a single file can hold a family."""
        return "two tables, as data.source: relational reads them"

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """See Content. It is never called, for no column is wanted."""
        raise NotImplementedError

    def order(self, table: str, rows: pa.Table) -> np.ndarray:
        """See ClientContent. Of children the column `order` decides, then all columns. What is missing is last."""
        codes = encode_payload(rows, self.schema.parent if table == PARENT else self.schema.child)
        keys = np.where(np.isnan(codes), np.inf, codes)
        if table == CHILD:
            keys = keys[:, [*_leading(self.schema.child), *range(codes.shape[1])]]
        return -keys if table == CHILD and self.schema.child.keep == "last" else keys

    def misfits(self, counts: Mapping[str, np.ndarray]) -> dict[int, Fault]:
        """See ClientContent."""
        orphans = dict.fromkeys(np.flatnonzero(counts[PARENT] == 0).tolist(), NO_PARENT)
        return orphans | dict.fromkeys(np.flatnonzero(counts[PARENT] > 1).tolist(), TWO_PARENTS)

    def gather(self, rows: Mapping[str, pa.Table], ends: Mapping[str, np.ndarray]) -> pa.Table:
        """See ClientContent. A reject without a parent gets some row within the bounds."""
        low = [column.low for column in self.schema.parent.columns.values()]
        parents = np.tile(np.array(low, dtype=np.float64), (len(ends[PARENT]), 1))
        parents[np.diff(ends[PARENT], prepend=0) > 0] = encode_payload(rows[PARENT], self.schema.parent) + 0.0
        children = encode_payload(rows[CHILD], self.schema.child) + 0.0  # no negative zero
        return decode(Families(parents, np.diff(ends[CHILD], prepend=0), children), self.schema)
