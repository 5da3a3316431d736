"""Turns columns of a file into payload fields where there is no schema: bytes, text, or the type of the field."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault

MAX_TEXT = 16 << 20
"""Largest size of a text in bytes. A longer text is a reject."""


class Content(abc.ABC):
    """Turns columns of a file into a modality's payload, record by record. It uses only Arrow and can be pickled.

    Attributes:
      payload: the Arrow fields of the payload.
    """

    payload: pa.Schema

    @abc.abstractmethod
    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """Returns None if a file's column of type `kind` may hold the field `name`, else the wanted type in words.

        CSV and JSONL give every column as string.
        """

    @abc.abstractmethod
    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """Turns columns into a payload table, and returns it with the rows that fail.

        The columns have the names of the payload fields and types that `wanted` accepts.
        """


class Preparation(Options):
    """What `data.prepare` says: what is done to records as they are read, whatever source they come from. Pickles."""

    def prepared(self, payload: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """Returns a payload table with the same columns, and the rows that cannot be prepared.

        The result for a row depends on that row alone.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class FieldContent(Content):
    """Reads binary fields from binary columns (or Hugging Face's struct of bytes and path), and text from strings.

    Any other field needs a column of exactly its own type. A null is a reject.
    """

    payload: pa.Schema

    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """See Content."""
        own = self.payload.field(name).type
        if pa.types.is_binary(own):
            fine = _is_bytes(kind)
            return None if fine else "binary, or a struct with a field bytes of binary, as Hugging Face writes"
        if pa.types.is_string(own):
            return None if is_text(kind) else "string"
        return None if kind == own else str(own)

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """See Content."""
        made: list[pa.Array] = []
        faults: dict[int, Fault] = {}
        for field in self.payload:
            column = columns[field.name].combine_chunks()
            if pa.types.is_struct(column.type) and pa.types.is_binary(field.type):
                column = column.flatten()[column.type.get_field_index("bytes")]
            if pa.types.is_string(field.type):
                column, bad = text_column(column)
                faults |= bad
            column = column.cast(field.type)
            faults |= {row: Fault(f"missing {field.name}") for row in null_rows(column) if row not in faults}
            made.append(column)
        return pa.table(made, schema=self.payload), faults


def null_rows(column: pa.Array) -> list[int]:
    """Returns the positions of nulls."""
    if not column.null_count:
        return []
    return pc.indices_nonzero(column.is_null()).to_pylist()


def is_text(kind: pa.DataType) -> bool:
    """Tells whether a column type holds text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def text_column(column: pa.Array) -> tuple[pa.Array, dict[int, Fault]]:
    """Returns a string column and the faults of its rows. A text that is too long or not UTF-8 is a fault, and null.

    Readers of files do not check either.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    raw = column.cast(pa.large_binary())
    faults = {
        row: Fault(f"text of more than {MAX_TEXT >> 20} MB")
        for row in pc.indices_nonzero(pc.greater(pc.binary_length(raw), MAX_TEXT)).to_pylist()
    }
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for row, value in enumerate(raw.to_pylist()):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError:
                faults[row] = Fault("text that is not UTF-8")
    if not faults:
        return column.cast(pa.string()), faults
    kept = pa.array([None if i in faults else x for i, x in enumerate(raw.to_pylist())], pa.binary())
    return kept.cast(pa.string()), faults


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        where = kind.get_all_field_indices("bytes")
        return len(where) == 1 and _is_bytes(kind.field(where[0]).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
