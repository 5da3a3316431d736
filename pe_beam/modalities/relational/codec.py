"""Converts families (a payload with a list of children) to codes of both tables and back, and packs rows as bytes.

A packed row has eight bytes a number, whose order as bytes is that of the numbers; a missing value comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.content import Content
from pe_beam.contracts.families import FamilyContent
from pe_beam.contracts.record import Fault
from pe_beam.modalities.relational.schema import ChildSchema, RelationalSchema
from pe_beam.modalities.tabular.codec import TableContent, decode_payload, encode_payload

_SIGN = np.uint64(1 << 63)


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


def pack(codes: np.ndarray) -> list[bytes]:
    """Returns rows of codes, float64 (n, m), as bytes of length 8 m whose order is that of the rows.

    >>> a, b, c = pack(np.array([[-1.0], [2.0], [np.nan]]))
    >>> a < b < c, unpack([a, c], 1).tolist()
    (True, [[-1.0], [nan]])
    """
    bits = np.ascontiguousarray(codes + 0.0).view(np.uint64)  # no negative zero
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    raw = np.where(np.isnan(codes), ~np.uint64(0), ordered).astype(">u8").tobytes()
    size = 8 * codes.shape[1]
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def unpack(rows: Sequence[bytes], columns: int) -> np.ndarray:
    """Returns the codes of packed rows, float64 (n, columns)."""
    ordered = np.frombuffer(b"".join(rows), dtype=">u8").astype(np.uint64).reshape(len(rows), columns)
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered)
    return np.where(ordered == ~np.uint64(0), np.nan, bits.view(np.float64))


@dataclass(frozen=True)
class RelationalContent(FamilyContent):
    """Reads columns of two files as the schema declares them."""

    schema: RelationalSchema

    @property
    def payload(self) -> pa.Schema:
        """The parent's columns and the list of children."""
        return self.schema.payload

    @cached_property
    def parent(self) -> Content:  # type: ignore[override]
        """See FamilyContent."""
        return TableContent(self.schema.parent)

    @cached_property
    def child(self) -> Content:  # type: ignore[override]
        """See FamilyContent."""
        return TableContent(self.schema.child)

    @property
    def parent_key(self) -> str:  # type: ignore[override]
        """See FamilyContent."""
        return self.schema.parent.key

    @property
    def child_key(self) -> str:  # type: ignore[override]
        """See FamilyContent."""
        return self.schema.child.key

    @property
    def most(self) -> int:  # type: ignore[override]
        """See FamilyContent."""
        return self.schema.child.most

    @property
    def keeps_last(self) -> bool:  # type: ignore[override]
        """See FamilyContent."""
        return self.schema.child.keep == "last"

    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """See Content. No column of a single file can hold a family."""
        return "two tables, as data.source: relational reads them"

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """See Content. It is never called, for no column is wanted."""
        raise NotImplementedError

    def pack_parents(self, rows: pa.Table) -> list[bytes]:
        """See FamilyContent."""
        return pack(encode_payload(rows, self.schema.parent))

    def pack_children(self, rows: pa.Table) -> list[bytes]:
        """See FamilyContent. The column `order` comes first, so that it decides; then all columns in their order."""
        codes = encode_payload(rows, self.schema.child)
        return pack(codes[:, [*_leading(self.schema.child), *range(codes.shape[1])]])

    def unpack(self, parents: Sequence[bytes | None], children: Sequence[Sequence[bytes]]) -> pa.Table:
        """See FamilyContent. A family without a parent, which is a reject, gets some row within the bounds."""
        low = pack(np.array([[column.low for column in self.schema.parent.columns.values()]]))[0]
        codes = unpack([low if row is None else row for row in parents], len(self.schema.parent.columns))
        leading = len(_leading(self.schema.child))
        rows = unpack([row for own in children for row in own], leading + len(self.schema.child.columns))
        counts = np.array([len(own) for own in children], dtype=np.int64)
        return decode(Families(codes, counts, rows[:, leading:]), self.schema)
