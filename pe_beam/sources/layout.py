"""Finds wanted columns in a file with an Arrow schema: by name, by dotted path in structs, or in folder names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pe_beam import names
from pe_beam.contracts.record import Fault
from pe_beam.sources.chat import NO_MESSAGES, chat_text


def paths_of(column: str, fields: pa.Schema | pa.StructType) -> list[tuple[int, ...]]:
    """Returns the positions, from the outer to the inner field, of all fields that a column may mean.

    A field whose name contains the dots takes precedence over a path.

    >>> paths_of("a.b", pa.schema([("a", pa.struct([("b", pa.string())]))]))
    [(0, 0)]
    """
    every = [fields.field(i) for i in range(len(fields.names))] if isinstance(fields, pa.Schema) else list(fields)
    found: list[tuple[int, ...]] = [(i,) for i in names.locate(column, [field.name for field in every])]
    head = column
    while not found and "." in head:
        head = head.rpartition(".")[0]
        rest = column[len(head) + 1 :]
        for i in names.locate(head, [field.name for field in every]):
            if pa.types.is_struct(every[i].type):
                found += [(i, *path) for path in paths_of(rest, every[i].type)]
    return found


@dataclass(frozen=True)
class Layout:
    """The wanted columns in one file.

    Attributes:
      own: the file's schema.
      wanted: columns, as the recipe names them.
      given: column -> the value that folder names give all rows.
      chat: whether lists of messages count as text.
    """

    own: pa.Schema
    wanted: Sequence[str]
    given: Mapping[str, str | None]
    chat: bool

    @cached_property
    def paths(self) -> dict[str, list[tuple[int, ...]]]:
        """Column -> positions of the fields that it may mean (`paths_of`)."""
        return {column: paths_of(column, self.own) for column in self.wanted}

    def schema(self) -> pa.Schema:
        """Returns the wanted columns with their types, under the recipe's names. A column found twice comes twice."""
        fields = []
        for column, paths in self.paths.items():
            kinds = [self._kind(path) for path in paths]
            fields += [(column, kind) for kind in kinds or ([pa.string()] if column in self.given else [])]
        return pa.schema(fields)

    def _kind(self, path: tuple[int, ...]) -> pa.DataType:
        kind = self.own.field(path[0]).type
        for place in path[1:]:
            kind = kind.field(place).type
        return pa.string() if self.chat and _is_chat(kind) else kind

    def leaves(self) -> list[str]:
        """Returns the columns to read, as the Parquet reader names them."""
        found = []
        for paths in self.paths.values():
            for path in paths[:1]:
                field = self.own.field(path[0])
                parts = [field.name]
                for place in path[1:]:
                    field = field.type.field(place)
                    parts.append(field.name)
                found.append(".".join(parts))
        return list(dict.fromkeys(found))

    def table(self, batch: pa.RecordBatch) -> tuple[pa.Table, dict[int, Fault]]:
        """Returns the wanted columns under the recipe's names, and the faults of rows whose lists are not messages."""
        arrays: list[pa.Array] = []
        faults: dict[int, Fault] = {}
        for column, paths in self.paths.items():
            if not paths:
                arrays.append(pa.array([self.given[column]] * len(batch), pa.string()))
                continue
            array = self._array(batch, paths[0])
            if self.chat and _is_chat(array.type):
                array, bad = _as_text(array)
                faults |= bad
            arrays.append(array)
        return pa.table(arrays, names=list(self.paths)), faults

    def _array(self, batch: pa.RecordBatch, path: tuple[int, ...]) -> pa.Array:
        field = self.own.field(path[0])
        (array,) = [batch.column(i) for i, name in enumerate(batch.schema.names) if name == field.name]
        for place in path[1:]:
            field = field.type.field(place)
            array = pc.struct_field(array, [field.name])
        return array


def _is_chat(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(lists and pa.types.is_struct(kind.value_type))


def _as_text(array: pa.Array) -> tuple[pa.Array, dict[int, Fault]]:
    values = [None if messages is None else chat_text(messages) for messages in _lists(array)]
    bad = pc.indices_nonzero(pc.and_(array.is_valid(), pa.array(values, pa.string()).is_null())).to_pylist()
    return pa.array(values, pa.string()), dict.fromkeys(bad, NO_MESSAGES)


def _lists(array: pa.Array) -> list[list[Any] | None]:
    """Returns lists as Python has them. One that it cannot hold (a text that is not UTF-8) holds no message."""
    try:
        return array.to_pylist()
    except (OverflowError, ValueError):
        return [_held(value) for value in array]


def _held(value: pa.Scalar) -> list[Any] | None:
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return [None]
