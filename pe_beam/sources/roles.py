"""Which columns of a file are payload, label and client, and how a batch of them becomes a `SourceBatch`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

import pyarrow as pa

from pe_beam import names as spelling
from pe_beam.contracts.content import Content
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import UNREAD, SourceBatch, SourceRequest
from pe_beam.errors import DataError, RecipeError

NAMED = "string, integer, float, decimal or boolean"
NO_CLIENT = ("nan", "nat", "none", "null", "<na>", "n/a", "#n/a")
"""Texts that programs write for a missing value. As an id, they would make one client of such records."""
ROUNDED = Fault("client id that is a float of 2^53 or more")
NO_WHOLE = Fault("client id that is no whole number")
_CODES, _NUMBERS = "client ids with leading zeros of length ", "client ids of digits of length "
_RESERVED = ("label", "client")
_UNREAD_NAMES = 100
"""Largest number of columns of a file that are noted as not read."""


@dataclass(frozen=True)
class Roles:
    """The columns that a source reads.

    Attributes:
      content: checks and converts the payload columns.
      names: payload field -> column.
      label: the columns whose values, joined, are the label; empty without labels.
      client: the column of client ids, or None.
      key: the recipe key of the path, for messages.
      known: a declared label in the form that is compared (`names.label_parts`) -> that label; empty: labels stay as
        the file has them.
      unused: columns of label or client that the recipe names, and that are not asked for.
    """

    content: Content
    names: Mapping[str, str]
    label: tuple[str, ...]
    client: str | None
    key: str = "data.path"
    known: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        content: Content,
        columns: Mapping[str, str | Sequence[str]],
        *,
        labelled: bool,
        client: bool,
        key: str = "data.path",
        labels: Sequence[str] | None = None,
    ) -> Roles:
        """Returns the roles that `data.columns` gives. A role that it does not give has the column of the same name.

        Args:
          content: checks and converts the payload columns.
          columns: role -> column; the role label may have several.
          labelled: whether records have labels.
          client: whether they have client ids.
          key: the recipe key of the path.
          labels: the declared labels; a record's label is compared with them by `names.label_key`.

        Raises:
          RecipeError: an unknown role, a list where one column is wanted, or a column with two roles.
        """
        fields = list(content.payload.names)
        allowed = [*fields, *_RESERVED]
        columns = {_role(role, allowed): column for role, column in columns.items()}
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
        known = {spelling.label_parts(text, several=len(label) > 1): text for text in labels or () if labelled}
        unused = (
            *(label if not labelled else ()),
            *([str(columns["client"])] if "client" in columns and not client else []),
        )
        found = cls(content, names, label if labelled else (), who, key, known, unused)
        wanted = [*names.values(), *found.label]
        twice = sorted({column for column in wanted if wanted.count(column) > 1}) if len(wanted) < 10_000 else []
        if twice:
            raise RecipeError(f"data.columns: column {twice[0]!r} has two roles; one is wanted")
        return found

    @classmethod
    def asked(cls, request: SourceRequest) -> Roles:
        """Returns the roles of a request. Raises RecipeError as `of` does."""
        return cls.of(
            request.content,
            request.columns,
            labelled=request.labelled,
            client=request.client,
            key=request.key,
            labels=request.labels,
        )

    def columns(self) -> list[str]:
        """Returns the columns to read, each once."""
        client = [self.client] if self.client is not None else []
        return list(dict.fromkeys([*self.names.values(), *self.label, *client]))

    def by_role(self) -> dict[str, tuple[str, ...]]:
        """Returns role -> its columns."""
        client = {"client": (self.client,)} if self.client is not None else {}
        return {**{name: (column,) for name, column in self.names.items()}, "label": self.label, **client}

    def unread(self, among: Iterable[str], read: Collection[int]) -> frozenset[str]:
        """Returns the facts about a file's columns that have no role: all but those at the positions `read`."""
        left = (name for at, name in enumerate(among) if at not in read and name.strip() and name not in self.unused)
        return frozenset(UNREAD + name for name in islice(left, _UNREAD_NAMES))

    def check(self, schema: pa.Schema) -> None:
        """Raises DataError if a file lacks a column, has it twice, or has it with a wrong type."""
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

    def batch(
        self, table: pa.Table, rows: list[str], faults: Mapping[int, Fault], seen: Iterable[str] = ()
    ) -> SourceBatch:
        """Returns the batch of a table that holds `columns()`. Rows in `faults` could not be read at all."""
        picked = pa.table([table[column] for column in self.names.values()], names=list(self.names))
        payload, bad = self.content.convert(picked)
        clients, odd = self._clients(table)
        facts = frozenset(seen) | frozenset(client_facts(clients))
        return SourceBatch(payload, self._labels(table), clients, rows, {**odd, **bad, **faults}, facts)

    def refuse(self, seen: Iterable[str]) -> None:
        """Raises DataError if all batches together show client ids that may have lost their leading zeros."""
        codes = [int(fact.removeprefix(_CODES)) for fact in seen if fact.startswith(_CODES)]
        numbers = [int(fact.removeprefix(_NUMBERS)) for fact in seen if fact.startswith(_NUMBERS)]
        if codes and numbers and min(numbers) < max(codes):
            raise DataError(
                f"data.columns.client: some ids have leading zeros and others fewer digits, as if a program had cut "
                f"zeros off (007, 7); one form for each client is wanted in all files of {self.key}: write ids as text"
            )

    def _labels(self, table: pa.Table) -> list[str | None]:
        if not self.label:
            return [None] * table.num_rows
        parts = [texts(table[column]) for column in self.label]
        keys: list[tuple[str, ...] | None]
        if len(parts) == 1:
            found, keys = parts[0], [None if text is None else (spelling.label_key(text),) for text in parts[0]]
        else:
            found = [_joined(values) for values in zip(*parts, strict=True)]
            keys = [None if text is None else spelling.label_parts(text, several=True) for text in found]
        known: Mapping[Any, str] = self.known
        return [known.get(key, text) for key, text in zip(keys, found, strict=True)] if known else found

    def _clients(self, table: pa.Table) -> tuple[list[str | None], dict[int, Fault]]:
        """Returns client ids in one spelling (None: no id), and the faults of rows whose id identifies no client."""
        if self.client is None:
            return [None] * table.num_rows, {}
        column = table[self.client]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        floats = pa.types.is_floating(kind)
        exact = {"halffloat": 2**11, "float": 2**24}.get(str(kind), spelling.EXACT)
        found: list[str | None] = []
        faults: dict[int, Fault] = {}
        for row, text in enumerate(texts(column)):
            name = None if text is None else spelling.number_or_text(text)
            if not name or name.lower() in NO_CLIENT:
                found.append(None)
                continue
            if floats or pa.types.is_decimal(kind):
                whole = spelling.digits(name)
                if whole is None:
                    faults[row] = NO_WHOLE
                elif floats and abs(int(whole)) >= exact:
                    faults[row] = ROUNDED
            elif spelling.is_rounded(text or ""):
                faults[row] = ROUNDED
            found.append(name)
        return found, faults


def _role(role: str, allowed: Sequence[str]) -> str:
    where = [] if role in allowed else spelling.locate(role, allowed)
    return allowed[where[0]] if len(where) == 1 else role


def client_facts(clients: Sequence[str | None]) -> set[str]:
    """Returns the facts about client ids by which `Roles.refuse` judges all batches together."""
    facts = set()
    for name in {name for name in clients if name is not None}:
        if spelling.has_leading_zeros(name):
            facts.add(f"{_CODES}{len(name)}")
        elif name.isascii() and name.isdigit():
            facts.add(f"{_NUMBERS}{len(name)}")
    return facts


def _joined(values: Sequence[str | None]) -> str | None:
    texts = [value for value in values if value is not None and spelling.JOINT not in value]
    return spelling.JOINT.join(texts) if len(texts) == len(values) else None


def _few(names: Sequence[str]) -> list[str]:
    return [*names[:12], "..."] if len(names) > 14 else list(names)


def _is_name(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    more = (pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(check(kind) for check in (*checks, *more))


def texts(column: pa.ChunkedArray) -> list[str | None]:
    """Returns a column of labels or ids as text: whole numbers as digits, `true` and `false`, None if missing."""
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_boolean(kind):
        return [None if value is None else str(value).lower() for value in array.to_pylist()]
    if pa.types.is_decimal(kind):
        return [None if value is None else _number(_written(value)) for value in array.to_pylist()]
    if pa.types.is_floating(kind):
        wide = array if kind != pa.float16() else array.cast(pa.float32())
        return [None if text in (None, "nan", "-nan") else _number(text) for text in wide.cast(pa.string()).to_pylist()]
    try:
        values = array.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check that a string is UTF-8
        raw = array.cast(pa.large_binary()).to_pylist()
        values = [None if value is None else value.decode("utf-8", "backslashreplace") for value in raw]
    return [None if value is None else str(value) for value in values]


def _written(value: Decimal) -> str:
    """Returns all digits of a decimal without zeros at its end. (`Decimal.normalize` rounds to 28.)"""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _number(text: str) -> str:
    return spelling.digits(text) or text
