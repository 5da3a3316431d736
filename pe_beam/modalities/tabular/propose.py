"""Proposes a schema from a file: types and names alone, or, of a file that its owner calls public, bounds too."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.errors import DataError, InputError
from pe_beam.modalities.tabular.schema import MAX_COLUMNS, RESERVED, TableSchema

MAX_CATEGORIES = 100
ROWS = 1_000_000


def propose_schema(
    path: str | Path, *, public: bool = False, label: str | None = None, client: str | None = None
) -> dict[str, Any]:
    """A `data.schema` to start from, as plain data, and the `data.columns` that go with it.

    Args:
      path: one .csv, .parquet or .jsonl file.
      public: True only if the file's own values are no secret (a public sample, a test set that is published): then
        bounds, categories and missing values are read off it. False reads names and types alone, and bounds are left
        to be declared (`min: ???`), which a recipe refuses as they stand.
      label: the column that holds labels; left out of the schema.
      client: the column that holds client ids; left out too.

    Returns:
      {"schema": {"columns": ...}, "columns": role -> column, "labels": the label's values or None, "dropped": columns
      left out and why}.

    Raises:
      InputError: an ending that is not known.
      DataError: a file that cannot be read, or has nothing to propose.
    """
    table = _read(Path(path), rows=ROWS if public else 1000)
    columns: dict[str, Any] = {}
    roles = {role: name for role, name in (("label", label), ("client", client)) if name is not None}
    dropped: dict[str, str] = {}
    for name in roles.values():
        if name not in table.column_names:
            raise DataError(f"{path}: there is no column {name!r}")
    for name in table.column_names:
        if name in roles.values():
            continue
        found = _proposed(table[name].combine_chunks(), public=public)
        if isinstance(found, str):
            dropped[name] = found
            continue
        own = f"{name}_column" if name in RESERVED else name
        if own != name:
            roles[own] = name
        columns[own] = found
    if not columns:
        raise DataError(f"{path}: no column there can be part of a table's schema")
    if len(columns) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(columns)} columns; a schema has {MAX_COLUMNS} at most")
    labels = _categories(table[label].combine_chunks()) if public and label is not None else None
    if public:
        TableSchema.model_validate({"columns": columns})
    return {"schema": {"columns": columns}, "columns": roles, "labels": labels, "dropped": dropped}


def _read(path: Path, *, rows: int) -> pa.Table:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            batches = list(_first(file.iter_batches(min(rows, 65_536)), rows))
            table = pa.Table.from_batches(batches, file.schema_arrow).slice(0, rows)
        elif path.suffix == ".csv":
            options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
            with pyarrow.csv.open_csv(path, convert_options=options) as reader:
                table = pa.Table.from_batches(list(_first(reader, rows)), reader.schema).slice(0, rows)
        elif path.suffix in (".jsonl", ".ndjson"):
            table = pyarrow.json.read_json(path).slice(0, rows)
        else:
            raise InputError(f"{path}: .csv, .parquet or .jsonl is wanted")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} ({type(error).__name__})") from None
    if len(set(table.column_names)) != table.num_columns:
        raise DataError(f"{path}: a column name occurs twice; each may occur once")
    return table


def _first(batches: Any, rows: int) -> Any:
    """Batches up to the one in which so many rows are full."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch)
        if seen >= rows:
            return


def _proposed(column: pa.Array, *, public: bool) -> dict[str, Any] | str:
    """A column's declaration, or why there is none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    name = type_name(column.type)
    if name is None:
        return f"type {column.type} is no part of a table"
    if public:
        return _observed(column, name)
    if name == "boolean":
        return {"type": name}
    return {"type": name, "values": ["???"]} if name == "categorical" else {"type": name, "min": "???", "max": "???"}


def _observed(column: pa.Array, name: str) -> dict[str, Any] | str:
    """A public column's declaration, its values read."""
    if column.null_count == len(column):
        return "no values"
    nan = pa.types.is_floating(column.type) and bool(pc.any(pc.is_nan(column)).as_py())
    found: dict[str, Any] = {"type": name}
    if name == "categorical":
        values = _categories(column)
        if values is None:
            return f"more than {MAX_CATEGORIES} different texts"
        found["values"] = values
    elif name != "boolean":
        found |= _bounds(column, name)
    return found | ({"missing": True} if column.null_count or nan else {})


def type_name(kind: pa.DataType) -> str | None:
    """The type of a schema that fits an Arrow type; None: no part of a table."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "datetime"
    return "categorical" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _categories(column: pa.Array) -> list[str] | None:
    """Values as text, sorted; None where there are too many."""
    values = pc.unique(column.cast(pa.string()).drop_null())
    return sorted(values.to_pylist()) if 0 < len(values) <= MAX_CATEGORIES else None


def _bounds(column: pa.Array, name: str) -> dict[str, Any]:
    if name in ("date", "datetime"):
        ends = pc.min_max(column.cast(pa.timestamp("s"), safe=False)).as_py()
        low, high = ends["min"], ends["max"]
        if name == "date":
            return {"min": _day(low), "max": _day(high)}
        return {"min": low.replace(microsecond=0).isoformat(), "max": high.replace(microsecond=0).isoformat()}
    values = np.asarray(column.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if name == "integer":
        return {"min": int(low), "max": int(high)}
    digits = 6 - math.ceil(math.log10(max(abs(low), abs(high), 1e-9)))
    step = 10.0**-digits
    return {"min": round(math.floor(low / step) * step, 12), "max": round(math.ceil(high / step) * step, 12)}


def _day(value: datetime | date) -> str:
    return (value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value).isoformat()[:10]
