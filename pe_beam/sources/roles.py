"""Which columns of a file are payload, label and client, and how a batch of them becomes a `SourceBatch`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pe_beam.errors import DataError, RecipeError
from pe_beam.modalities.base import Content, Fault
from pe_beam.sources.base import SourceBatch

JOINT = " | "
"""Between the values of several label columns. A value that holds it is no label."""
NAMED = "string or integer"
_RESERVED = ("label", "client")


@dataclass(frozen=True)
class Roles:
    """The columns that a source reads.

    Attributes:
      content: what becomes of the payload columns.
      names: payload field -> column.
      label: the columns whose values, joined, are the label; none without labels.
      client: the column of client ids, or None.
      key: the recipe key of the path, for messages.
    """

    content: Content
    names: Mapping[str, str]
    label: tuple[str, ...]
    client: str | None
    key: str = "data.path"

    @classmethod
    def of(
        cls,
        content: Content,
        columns: Mapping[str, str | Sequence[str]],
        *,
        labelled: bool,
        client: bool,
        key: str = "data.path",
    ) -> Roles:
        """Roles as `data.columns` gives them; a role that it does not give has the column of its own name.

        Raises:
          RecipeError: an unknown role, a list where one column is wanted, or a column with two roles.
        """
        fields = list(content.payload.names)
        allowed = [*fields, *_RESERVED]
        unknown = sorted(set(columns) - set(allowed))
        if unknown:
            raise RecipeError(f"data.columns: unknown {', '.join(unknown)}; allowed: {', '.join(_few(allowed))}")
        for role, column in columns.items():
            if role != "label" and not isinstance(column, str):
                raise RecipeError(f"data.columns.{role}: one column is wanted; only label may be a list")
        given = columns.get("label", "label")
        label = (given,) if isinstance(given, str) else tuple(given)
        names = {name: str(columns.get(name, name)) for name in fields}
        who = str(columns.get("client", "client")) if client else None
        found = cls(content, names, label if labelled else (), who, key)
        wanted = [*names.values(), *found.label]
        twice = sorted({column for column in wanted if wanted.count(column) > 1}) if len(wanted) < 10_000 else []
        if twice:
            raise RecipeError(f"data.columns: column {twice[0]!r} has two roles; one is wanted")
        return found

    def columns(self) -> list[str]:
        """The columns to be read, none twice."""
        client = [self.client] if self.client is not None else []
        return list(dict.fromkeys([*self.names.values(), *self.label, *client]))

    def check(self, schema: pa.Schema) -> None:
        """Refuses a file that lacks a column, has it twice, or of another type; raises DataError."""
        for name, column in self.names.items():
            self._check(schema, name, column, functools.partial(self.content.wanted, name))
        for column in self.label:
            self._check(schema, "label", column, lambda kind: None if _is_name(kind) else NAMED)
        if self.client is not None:
            self._check(schema, "client", self.client, lambda kind: None if _is_name(kind) else NAMED)

    def _check(self, schema: pa.Schema, role: str, column: str, wanted: Callable[[pa.DataType], str | None]) -> None:
        where = schema.get_all_field_indices(column)
        key = f"data.columns.{role}"
        if len(where) != 1:
            fault = "no column of that name" if not where else "more than one column of that name"
            hint = wanted(pa.null()) or "one column"
            raise DataError(f"{key}: {column!r}: {fault} in a file of {self.key}; wanted: {hint}")
        other = wanted(schema.field(where[0]).type)
        if other:
            fault = "the column is of a wrong type"
            raise DataError(f"{key}: {column!r}: {fault} in a file of {self.key}; wanted: {other}")

    def batch(self, table: pa.Table, rows: list[str], faults: Mapping[int, Fault]) -> SourceBatch:
        """A batch out of a table that holds `columns()`; rows in `faults` were not read at all."""
        picked = pa.table([table[column] for column in self.names.values()], names=list(self.names))
        payload, bad = self.content.convert(picked)
        every = {**bad, **faults}
        return SourceBatch(payload, self._labels(table), self._clients(table), rows, every)

    def _labels(self, table: pa.Table) -> list[str | None]:
        if not self.label:
            return [None] * table.num_rows
        parts = [_names(table[column]) for column in self.label]
        return parts[0] if len(parts) == 1 else [_joined(values) for values in zip(*parts, strict=True)]

    def _clients(self, table: pa.Table) -> list[str | None]:
        if self.client is None:
            return [None] * table.num_rows
        return [name or None for name in _names(table[self.client])]


def _joined(values: Sequence[str | None]) -> str | None:
    texts = [value for value in values if value is not None and JOINT not in value]
    return JOINT.join(texts) if len(texts) == len(values) else None


def _few(names: Sequence[str]) -> list[str]:
    return [*names[:12], "..."] if len(names) > 14 else list(names)


def _is_name(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _names(column: pa.ChunkedArray) -> list[str | None]:
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        values = array.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check that a string is UTF-8
        raw = array.cast(pa.large_binary()).to_pylist()
        values = [None if value is None else value.decode("utf-8", "backslashreplace") for value in raw]
    return [None if value is None else str(value) for value in values]
