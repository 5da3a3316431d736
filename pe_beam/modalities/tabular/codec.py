"""Converts records (columns of a file, or a payload) to float64 codes (n, m) and back. NaN is a missing value.

A code is the number itself, the days (date) or seconds (datetime) since 1970-01-01 UTC, or a category's position.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.content import Content, is_text
from pe_beam.contracts.record import Fault
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.reading import NO_CATEGORY, is_number, read_column, zone_is_known
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.names import Declared

_DETAIL = 200
"""Largest length of a value's text in `private/rejects/`."""
_WANTED = {
    "integer": "integer, float with whole values, or text",
    "float": "number or text",
    "boolean": "boolean, number of 0 and 1, or text (true, false, 1, 0)",
    "categorical": "text, number or boolean",
    "ordinal": "text, number or boolean",
    "date": "date, timestamp, or text (2026-01-31)",
    "datetime": "timestamp, date, or text (2026-01-31T23:59:59)",
}


def encode_payload(table: pa.Table, schema: TableSchema) -> np.ndarray:
    """Returns the codes of a table that holds the payload: float64 (n, m)."""
    codes = np.empty((table.num_rows, len(schema.columns)))
    for i, (name, column) in enumerate(schema.columns.items()):
        array = _one(table[name])
        if column.choices:
            if pa.types.is_boolean(array.type):
                array = array.cast(pa.int8()).cast(pa.float64())
            else:
                array = pc.index_in(array, value_set=pa.array(column.choices, pa.string())).cast(pa.float64())
        elif pa.types.is_temporal(array.type):
            own = array.cast(pa.int32()) if column.type == "date" else array.cast(pa.timestamp("s")).cast(pa.int64())
            array = own.cast(pa.float64())
        codes[:, i] = _floats(array)
        if column.stepped and not column.whole:  # a release that a run starts from may have more
            codes[:, i] = column.nearest(codes[:, i])
    return codes


def decode_payload(codes: np.ndarray, schema: TableSchema) -> pa.Table:
    """Returns the payload of codes that are within the declared bounds."""
    arrays = []
    for i, column in enumerate(schema.columns.values()):
        values = codes[:, i]
        missing = np.isnan(values)
        if column.type == "float":
            arrays.append(pa.array(values, pa.float64(), mask=missing))
            continue
        whole = pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)
        if column.type == "boolean":
            arrays.append(whole.cast(pa.bool_()))
        elif column.choices:
            arrays.append(pa.array(column.choices, pa.string()).take(whole))
        else:
            own = whole.cast(pa.int32()) if column.type == "date" else whole.cast(pa.timestamp("s"))
            arrays.append(own.cast(column.arrow))
    return pa.table(arrays, schema=schema.payload)


@dataclass(frozen=True)
class TableContent(Content):
    """Reads columns of a file as the schema declares them. It parses, clips or rejects each value.

    An empty text and a NaN are missing values (unless the empty text is a declared category). Infinity and whole
    numbers of 2^53 or more are rejects under every policy, because no bound makes them exact.
    """

    schema: TableSchema

    @property
    def payload(self) -> pa.Schema:
        """The declared columns."""
        return self.schema.payload

    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """See Content."""
        column = self.schema.columns[name]
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        fine = is_text(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind)
        if column.type in ("date", "datetime"):
            fine = fine or pa.types.is_date(kind) or pa.types.is_timestamp(kind)
            fine = fine or (column.format is not None and is_number(kind))
            if column.type == "date" and not zone_is_known(kind):
                return f"{_WANTED['date']}; the time zone of this timestamp is not known on this machine"
        else:
            fine = fine or is_number(kind) or (bool(column.choices) and pa.types.is_boolean(kind))
        return None if fine else _WANTED[column.type]

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """See Content. Of several faults of a record, the first in the schema's order is reported."""
        codes = np.empty((columns.num_rows, len(self.schema.columns)))
        faults: dict[int, Fault] = {}
        for i, (name, column) in enumerate(self.schema.columns.items()):
            codes[:, i], bad = read_column(_one(columns[name]), column)
            for kind, rows in bad.items():
                for row in np.flatnonzero(rows).tolist():
                    if row not in faults:
                        faults[row] = _fault(name, kind, columns[name], row, column)
        if faults:
            rows = np.array(sorted(faults))
            codes[rows] = [column.low for column in self.schema.columns.values()]
        return decode_payload(codes, self.schema), faults


def _fault(name: str, kind: str, values: pa.ChunkedArray, row: int, column: Column) -> Fault:
    """Returns why a value cannot be used. The value itself is the detail, which is private."""
    text = _shown(values[row])
    variety = _declared(column).variety(text) if kind == NO_CATEGORY else ""
    return Fault(f"column {name}: {kind}", text[:_DETAIL], variety)


def _shown(value: pa.Scalar) -> str:
    """Returns a value as text, for a detail. Arrow holds days and texts that Python does not."""
    try:
        found = value.as_py()
    except (OverflowError, ValueError):  # a day beyond the year 9999, a text that is not UTF-8
        return f"a {value.type} that cannot be shown"
    return found.decode(errors="replace") if isinstance(found, bytes) else "" if found is None else str(found)


@functools.lru_cache(maxsize=256)
def _declared(column: Column) -> Declared:
    return Declared(column.choices)


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _floats(array: pa.Array) -> np.ndarray:
    """Returns float64, NaN for null, writable."""
    return np.array(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
