"""Records as numbers: Arrow columns of a file, or a payload, <-> float64 codes (n, m), NaN where a value is missing.

A code is the number itself, the days (date) or seconds (datetime) since 1970-01-01 UTC, or a category's position.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.modalities.base import Content, Fault
from pe_beam.modalities.content import is_text, text_column
from pe_beam.modalities.tabular.schema import EXACT, Column, TableSchema

_NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
_NOT_FINITE = r"^\s*[+-]?(?i:nan|inf|infinity)\s*$"
_BOOLEANS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
_WANTED = {
    "integer": "integer, float with whole values, or text",
    "float": "number or text",
    "boolean": "boolean, integer of 0 and 1, or text (true, false, 1, 0)",
    "categorical": "text, integer or boolean",
    "ordinal": "text, integer or boolean",
    "date": "date, timestamp, or text (2026-01-31)",
    "datetime": "timestamp, date, or text (2026-01-31T23:59:59)",
}


def encode_payload(table: pa.Table, schema: TableSchema) -> np.ndarray:
    """Codes of a table that holds the payload: float64 (n, m)."""
    codes = np.empty((table.num_rows, len(schema.columns)))
    for i, (name, column) in enumerate(schema.columns.items()):
        array = _one(table[name])
        if column.choices:
            if pa.types.is_boolean(array.type):
                array = array.cast(pa.int8()).cast(pa.float64())
            else:
                array = pc.index_in(array, value_set=pa.array(column.choices, pa.string())).cast(pa.float64())
        elif pa.types.is_temporal(array.type):
            array = array.cast(pa.int32() if column.type == "date" else pa.int64()).cast(pa.float64())
        codes[:, i] = _floats(array)
    return codes


def decode_payload(codes: np.ndarray, schema: TableSchema) -> pa.Table:
    """The payload of codes that lie within the declared bounds."""
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
            arrays.append((whole.cast(pa.int32()) if column.type == "date" else whole).cast(column.arrow))
    return pa.table(arrays, schema=schema.payload)


@dataclass(frozen=True)
class TableContent(Content):
    """Columns of a file as the schema declares them: parsed, clipped or rejected, value by value.

    An empty text and a NaN are missing values (unless the empty text is a declared category); infinity and whole
    numbers of 2^53 or more are rejects whatever the policy, since no bound makes them true.
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
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        fine = is_text(kind) or pa.types.is_null(kind)
        if column.type in ("integer", "float"):
            fine = fine or number
        elif column.type in ("date", "datetime"):
            fine = fine or pa.types.is_date(kind) or pa.types.is_timestamp(kind)
        else:
            fine = fine or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        return None if fine else _WANTED[column.type]

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """See Content. The first fault of a record, in the schema's order, is the one that is told."""
        codes = np.empty((columns.num_rows, len(self.schema.columns)))
        faults: dict[int, Fault] = {}
        for i, (name, column) in enumerate(self.schema.columns.items()):
            codes[:, i], bad = read_column(_one(columns[name]), column)
            for kind, rows in bad.items():
                for row in np.flatnonzero(rows).tolist():
                    faults.setdefault(row, Fault(f"column {name}: {kind}"))
        if faults:
            rows = np.array(sorted(faults))
            codes[rows] = [column.low for column in self.schema.columns.values()]
        return decode_payload(codes, self.schema), faults


def read_column(array: pa.Array, column: Column) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Codes of a file's column, float64 (n,), and kind of fault -> which rows, bool (n,)."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    bad: dict[str, np.ndarray] = {}
    if is_text(array.type):
        array, faults = text_column(array)
        for row, fault in faults.items():
            bad.setdefault(fault.kind, np.zeros(len(array), dtype=bool))[row] = True
        if "" not in column.choices:
            array = pc.if_else(pc.equal(pc.utf8_trim_whitespace(array), ""), pa.scalar(None, pa.string()), array)
    present = _mask(array.is_valid())
    codes, unreadable, kind = _codes(array, column)
    bad[kind] = unreadable & present
    if pa.types.is_floating(array.type) or is_text(array.type):
        nan = present & np.isnan(codes) & ~unreadable
        present &= ~nan
    bad["number that is not finite"] = present & np.isinf(codes)
    if column.type in ("integer", "date", "datetime"):
        bad["whole number of 2^53 or more"] = present & np.isfinite(codes) & (np.abs(codes) >= EXACT)
        bad["not a whole number"] = present & np.isfinite(codes) & (codes != np.floor(codes))
    outside = present & np.isfinite(codes) & ((codes < column.low) | (codes > column.high))
    if column.outside == "clip":
        codes = np.where(outside, np.clip(codes, column.low, column.high), codes)
    else:
        bad["value out of its declared bounds"] = outside
    faulty = np.zeros(len(codes), dtype=bool)
    for rows in bad.values():
        faulty |= rows
    if not column.missing:
        bad["missing value"] = ~present & ~faulty
    return codes, {kind: rows for kind, rows in bad.items() if rows.any()}


def _codes(array: pa.Array, column: Column) -> tuple[np.ndarray, np.ndarray, str]:
    """Codes, which of them could not be had, and why that would be."""
    if column.type == "boolean":
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(array.cast(pa.string())))
        known = pc.index_in(texts, value_set=pa.array(list(_BOOLEANS), pa.string()))
        values = np.array([*_BOOLEANS.values(), np.nan])
        codes = values[known.fill_null(len(_BOOLEANS)).to_numpy(zero_copy_only=False)]
        return codes, np.isnan(codes), "value that is not true or false"
    if column.choices:
        found = pc.index_in(array.cast(pa.string()), value_set=pa.array(column.choices, pa.string()))
        codes = _floats(found.cast(pa.float64()))
        return codes, np.isnan(codes), "category that is not declared"
    if column.type in ("date", "datetime"):
        return _times(array, column)
    if not is_text(array.type):
        return (
            _floats(array.cast(pa.float64(), safe=False)),
            np.zeros(len(array), dtype=bool),
            "value that is no number",
        )
    is_number = pc.match_substring_regex(array, _NUMBER)
    odd = _mask(pc.match_substring_regex(array, _NOT_FINITE).fill_null(False))
    texts = pc.if_else(is_number, pc.utf8_trim_whitespace(array), pa.scalar(None, pa.string()))
    codes = _floats(pc.utf8_ltrim(texts, characters="+").cast(pa.float64()))
    if odd.any():
        codes[odd] = [float(text) for text in array.filter(pa.array(odd)).to_pylist()]
    return codes, ~_mask(is_number.fill_null(False)) & ~odd, "value that is no number"


def _times(array: pa.Array, column: Column) -> tuple[np.ndarray, np.ndarray, str]:
    days = column.type == "date"
    kind = "value that is no date" if days else "value that is no date and time"
    if is_text(array.type):
        codes = np.array(
            [np.nan if text is None else _time(text, days) for text in array.to_pylist()], dtype=np.float64
        )
        return codes, np.isnan(codes), kind
    if pa.types.is_timestamp(array.type):
        per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
        seconds = np.floor(_floats(array.cast(pa.int64()).cast(pa.float64(), safe=False)) / per)
        return (np.floor(seconds / 86400) if days else seconds), np.zeros(len(array), dtype=bool), kind
    whole = _floats(array.cast(pa.date32()).cast(pa.int32()).cast(pa.float64()))
    return (whole if days else whole * 86400), np.zeros(len(array), dtype=bool), kind


def _time(text: str, days: bool) -> float:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return np.nan
    if days:
        return float(found.date().toordinal() - date(1970, 1, 1).toordinal())
    return float(round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()))


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _floats(array: pa.Array) -> np.ndarray:
    """float64, NaN where null, writable."""
    return np.array(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _mask(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)
