"""Proposes a schema from a file: only types and names, or, for a file that its owner calls public, also bounds.

The sources read the file, and the codec reads its values. So the proposed schema accepts the file from which it comes.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.content import Content, is_text, text_column
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Encoding
from pe_beam.errors import DataError, InputError
from pe_beam.modalities.tabular.columns import EACH, EXACT, Column
from pe_beam.modalities.tabular.guessing import CATEGORIES, Guess, guess_type, widest
from pe_beam.modalities.tabular.guessing import guess as guess_all
from pe_beam.modalities.tabular.marginals import bin_of
from pe_beam.modalities.tabular.reading import NO_NUMBER, TOO_LARGE, local_time, read_column
from pe_beam.modalities.tabular.schema import MAX_COLUMNS, RESERVED, TableSchema

MAX_CATEGORIES = 100
ROWS = 1_000_000
_BEGINNING = 64 << 20  # bytes that are looked at for a file's encoding
_HEADER = 1 << 20  # characters of a first line that are read for its separator
_DIGITS = 4
"""Significant digits of the range from min to max. The bounds of a float are rounded outwards to them."""
_FINEST = 6
"""Most digits after the point that are taken for a column's decimals: nobody has set more on purpose."""
_MANY = 30  # so many values would not all be halves by chance
_FEW = 4
_OUTWARDS = {"min": math.floor, "max": math.ceil}
_CROWDED, _SIZES = 2, 100  # bins that hold half of all values; how far apart sizes have to be, as a ratio
_KEYS = 100  # so many values, each once, are taken for ids


@dataclass(frozen=True)
class _AsText(Content):
    """Keeps every column as the text in the file."""

    payload: pa.Schema

    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        return None

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        return columns, {}


def propose_schema(
    path: str | Path,
    *,
    public: bool = False,
    label: str | None = None,
    client: str | None = None,
    encoding: Encoding = "utf-8",
) -> dict[str, Any]:
    """Returns a `data.schema` to start from, as plain data, and its `data.columns`.

    Args:
      path: one .csv, .parquet or .jsonl file.
      public: True only if the file's own values are not secret (a public sample, a published test set). Then bounds,
        categories and missing values are read from it. False reads only names and types, and bounds must be declared
        (`min: ???`); a recipe refuses `???`.
      label: the column of labels, which is left out of the schema.
      client: the column of client ids, which is left out too.
      encoding: of a .csv that is not UTF-8.

    Returns:
      {"schema": {"columns": ...}, "columns": role -> column, "labels": the label's values or None, "dropped": column
      that is left out -> why, "notes": column -> note for its owner, "rows": notes on records that are left out}.

      Raises:
        InputError: the ending of the file is not known.
        DataError: the file cannot be read, or has no usable columns.
    """
    most = ROWS if public else 1000
    table, rejects = _read(Path(path), rows=most, encoding=encoding)
    guess = Path(path).suffix != ".parquet"
    columns: dict[str, Any] = {}
    roles = {role: name for role, name in (("label", label), ("client", client)) if name is not None}
    dropped: dict[str, str] = {}
    notes: dict[str, str] = {}
    for name in roles.values():
        if name not in table.column_names:
            raise DataError(f"{path}: there is no column {name!r}")
    for name in table.column_names:
        if name in roles.values():
            continue
        column = table[name].combine_chunks()
        found, note = _proposed(column, guess=guess, public=public) if name.strip() else ("it has no name", "")
        if note:
            notes[name] = note
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
    labels = _labels(table[label].combine_chunks()) if public and label is not None else None
    if public:
        TableSchema.model_validate({"columns": columns})
    left = [f"{rejects} of its records cannot be read, and are left out"] if rejects else []
    left += [f"its first {most} records are read, and no others"] if public and len(table) + rejects >= most else []
    found = {"schema": {"columns": columns}, "columns": roles, "labels": labels}
    return found | {"dropped": dropped, "notes": notes, "rows": left}


def _read(path: Path, *, rows: int, encoding: Encoding) -> tuple[pa.Table, int]:
    """Returns the first records of a file, and how many of them cannot be read."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path}: is not there, or no file")
    rejects = 0
    try:
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            batches = list(_first(file.iter_batches(min(rows, 65_536)), rows))
            table = pa.Table.from_batches(batches, file.schema_arrow).slice(0, rows)
        elif path.suffix in (".csv", ".jsonl", ".ndjson"):
            table, rejects = _texts(path, rows, encoding)
        else:
            raise InputError(f"{path}: .csv, .parquet or .jsonl is wanted")
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} ({type(error).__name__})") from None
    if len(set(table.column_names)) != table.num_columns:
        raise DataError(f"{path}: a column name occurs twice; each may occur once")
    return table, rejects


def _texts(path: Path, rows: int, encoding: Encoding) -> tuple[pa.Table, int]:
    """Returns the first records of a text file without rejects, as a source reads them; nested columns as lists."""
    from pe_beam.sources.csv_files import CsvSource, header
    from pe_beam.sources.forms import ENCODINGS
    from pe_beam.sources.jsonl import JsonlSource
    from pe_beam.sources.lines import NOT_UTF8
    from pe_beam.sources.roles import Roles

    form = (_separator(path), _encoding(path, encoding)) if path.suffix == ".csv" else None
    names = dict.fromkeys(header(str(path), "public", *form), False) if form else _keys(path, rows)
    flat = [name for name, nested in names.items() if not nested]
    content = _AsText(pa.schema([(name, pa.string()) for name in flat]))
    roles = Roles(content, {name: name for name in flat}, (), None, key="public")
    source = CsvSource(str(path), roles, *form) if form else JsonlSource(str(path), roles)
    read = (batch for piece in source.pieces() for batch in source.read(piece))
    batches = list(_first(read, rows))
    parts = [_without(batch.payload, batch.faults) for batch in batches]
    table = pa.concat_tables(parts).slice(0, rows)
    for name in (name for name, nested in names.items() if nested):
        table = table.append_column(name, pa.nulls(len(table), pa.list_(pa.null())))
    rejects = [fault for batch in batches for fault in batch.faults.values()]
    if rejects and not len(table):
        more = f"; {ENCODINGS}" if NOT_UTF8 in rejects else ""
        raise DataError(f"{path}: none of its records can be read: {rejects[0].kind}{more}")
    return table, len(rejects)


def _separator(path: Path) -> str:
    """Returns the separator that the first line shows: a public file may have another one than the data."""
    from pe_beam.sources.forms import guess_separator

    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return guess_separator(file.readline(_HEADER))


def _encoding(path: Path, other: Encoding) -> Encoding:
    """Returns UTF-8 for a file whose beginning is that, and else another encoding: a public file may have its own."""
    with path.open("rb") as file:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(file.read(_BEGINNING))
        except UnicodeDecodeError:
            return other
    return "utf-8"


def _without(table: pa.Table, faults: Any) -> pa.Table:
    return table.filter(pa.array([row not in faults for row in range(len(table))])) if faults else table


def _keys(path: Path, rows: int) -> dict[str, bool]:
    """Returns names in the first objects of a JSONL file -> whether some of their values are lists or objects."""
    names: dict[str, bool] = {}
    with path.open("rb") as file:
        for line in islice(file, rows):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                continue
            for name, value in found.items() if isinstance(found, dict) else ():
                names[name] = names.get(name, False) or isinstance(value, list | dict)
    return names


def _first(batches: Any, rows: int) -> Iterator[Any]:
    """Yields batches until they have `rows` rows."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(getattr(batch, "payload", batch))
        if seen >= rows:
            return


def _proposed(column: pa.Array, *, guess: bool, public: bool) -> tuple[dict[str, Any] | str, str]:
    """Returns a column's declaration, or why it has none, and a note. `guess`: texts may be numbers and dates."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    name = type_name(column.type)
    if name is None:
        return f"type {column.type} is no part of a table", ""
    guess = guess and is_text(column.type)
    if public:
        found = guess_all(_present(column)) if guess else Guess(_narrowed(column, name))
        note = found.note or (_almost_numbers(column) if guess and found == CATEGORIES else "")
        return _observed(column, found), note or (_like_a_key(column) if found.type == "integer" else "")
    name = guess_type(_present(column)) if guess else name
    if name == "boolean":
        return {"type": name}, ""
    bounds = {"values": ["???"]} if name == "categorical" else {"min": "???", "max": "???"}
    return {"type": name} | bounds, ""


def _narrowed(column: pa.Array, name: str) -> str:
    """Returns the type of a column's values. Pandas cannot say date, or whole number with missing values."""
    if name == "float":
        codes, bad = read_column(column, widest("integer"))
        known = set(np.unique(codes[np.isfinite(codes)])[:3].tolist())
        return name if bad or not known else "boolean" if known == {0.0, 1.0} else "integer"
    if name == "datetime" and pa.types.is_timestamp(column.type):
        seconds = column.cast(pa.timestamp("ns", column.type.tz), safe=False).drop_null()
        nights = local_time(seconds).cast(pa.int64()).to_numpy() % (86_400 * 10**9) == 0
        return "date" if len(nights) and nights.all() else name
    return name


def _present(column: pa.Array) -> pa.Array:
    """Returns a text column's values, trimmed, without missing values (null or blank)."""
    texts, _ = text_column(column)
    texts = pc.utf8_trim_whitespace(texts.drop_null())
    return texts.filter(pc.not_equal(texts, ""))


def _observed(column: pa.Array, guess: Guess) -> dict[str, Any] | str:
    """Returns the declaration of a public column from its values."""
    if guess.type == "categorical":
        return _choices(column, guess.forms)
    codes, bad = read_column(column, widest(guess.type, guess.forms))
    known = codes[np.isfinite(codes)]
    if not len(known):
        return "no values"
    if TOO_LARGE in bad:
        return "whole numbers of 2^53 or more; they cannot be told apart exactly"
    found: dict[str, Any] = {"type": guess.type}
    decimals = _decimals_of(known, single=pa.types.is_float32(column.type)) if guess.type == "float" else None
    known = known if decimals is None else np.round(known, decimals) + 0.0  # a float32 of 38.7 is 38.70000076
    if guess.type != "boolean":
        # Values of other records may be beyond those of a sample.
        found |= _bounds(known.min(), known.max(), guess.type) | {"outside": "clip"}
    multiple = None if decimals is None else _multiple_of(known, decimals)
    if multiple is not None:
        ends = {end: float(way(round(found[end] / multiple, 9)) * multiple) for end, way in _OUTWARDS.items()}
        return (
            found
            | ends
            | {"multiple_of": multiple}
            | ({"missing": True} if np.isnan(codes).any() else {})
            | dict(guess.forms)
        )
    found |= {} if decimals is None else {"decimals": decimals}
    if guess.type == "integer" or decimals is not None:
        found |= _log_from(known, Column.model_validate(found))
    return found | ({"missing": True} if np.isnan(codes).any() else {}) | dict(guess.forms)


def _log_from(known: np.ndarray, column: Column) -> dict[str, float]:
    """Returns `log_from` if most values lie in so few of the column's bins that these do not tell them apart.

    It is then a power of ten of which nine tenths of the values are larger, 0 and signs aside.
    """
    sizes = np.abs(known[known != 0])
    if column.distinct <= EACH or len(sizes) < _MANY:
        return {}
    fullest = np.sort(np.bincount(bin_of(known[known != 0], column)))[::-1][:_CROWDED]
    if 2 * fullest.sum() < len(sizes):
        return {}
    least = 10.0 ** math.floor(math.log10(np.quantile(sizes, 0.1)))
    found = max(least, column.step)
    return {} if column.high - column.low < _SIZES * found else {"log_from": found}


def _decimals_of(known: np.ndarray, *, single: bool) -> int | None:
    """Returns the digits after the point that all values have at most; None: more than `_FINEST`.

    Args:
      known: float64 (n,).
      single: whether they were float32, of which the nearest one to 38.7 counts as that.
    """
    kind = np.float32 if single else np.float64
    for decimals in range(_FINEST + 1):
        if np.abs(known).max() * 10.0**decimals < EXACT and (np.round(known, decimals).astype(kind) == known).all():
            return decimals
    return None


def _multiple_of(known: np.ndarray, decimals: int) -> float | None:
    """Returns a half, a quarter or a twentieth if all of many values are multiples of it.

    Args:
      known: float64 (n,), of `decimals` digits after the point.
      decimals: the digits that they have at most.
    """
    last = np.rint(known * 10.0**decimals)
    if len(known) < _MANY or len(np.unique(last)) < _FEW:
        return None
    for step, digits, times in ((0.5, 1, 5), (0.25, 2, 25), (0.05, 2, 5)):
        if digits == decimals and (last % times == 0).all():
            return step
    return None


def _choices(column: pa.Array, forms: Mapping[str, Any]) -> dict[str, Any] | str:
    present = _present(column)
    present = present.filter(pc.invert(pc.is_in(present, value_set=pa.array(forms.get("nulls", ()), pa.string()))))
    if not len(present):
        return "no values"
    values = _categories(present)
    if values is None:
        return f"more than {MAX_CATEGORIES} different texts; if these are public codes, declare all of them"
    missing = {"missing": True} if len(present) < len(column) else {}
    return {"type": "categorical", "values": values} | missing | dict(forms)


def _like_a_key(column: pa.Array) -> str:
    """Returns a note on whole numbers of which each comes once, as ids do; else an empty one."""
    known = _present(column) if is_text(column.type) else column.drop_null()
    if len(known) < _KEYS or pc.count_distinct(known).as_py() < len(known):
        return ""
    return "each whole number comes once: an id has to be left out of data.schema, or named in data.columns.client"


def _almost_numbers(column: pa.Array) -> str:
    """Returns a note on texts of which most are numbers; else an empty one."""
    texts = _present(column)
    odd = read_column(texts, widest("float"))[1].get(NO_NUMBER, np.zeros(0, dtype=bool))
    if not 0 < 2 * odd.sum() < len(texts):
        return ""
    first = texts[int(odd.argmax())].as_py()[:20]
    return f"{first!r} is no number; where it stands for a missing value, declare it in nulls"


def type_name(kind: pa.DataType) -> str | None:
    """Returns the schema's type for an Arrow type; None: a table cannot have it."""
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
    """Returns the values as sorted text; None: there are none, or too many."""
    values = pc.unique(column.cast(pa.string()).drop_null())
    return sorted(values.to_pylist()) if 0 < len(values) <= MAX_CATEGORIES else None


def _labels(column: pa.Array) -> list[str] | None:
    return _categories(_present(column) if is_text(column.type) else column)


def _bounds(low: float, high: float, name: str) -> dict[str, Any]:
    if name == "integer":
        return {"min": int(low), "max": int(high)}
    if name == "float":
        return {"min": _rounded(low, high - low, ROUND_FLOOR), "max": _rounded(high, high - low, ROUND_CEILING)}
    unit = "days" if name == "date" else "seconds"
    ends = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(**{unit: int(end)}) for end in (low, high)]
    texts = [end.replace(tzinfo=None).isoformat()[: 10 if name == "date" else None] for end in ends]
    return dict(zip(("min", "max"), texts, strict=True))


def _rounded(value: float, width: float, way: str) -> float:
    """Rounds a bound outwards, in decimal, so that 38.3 stays 38.3. Binary multiples of 0.0001 may give 38.2999."""
    exact = Decimal(repr(float(value)))
    size = Decimal(repr(float(width if 0 < width < np.inf else abs(value))))
    if not size:
        return float(value)
    return float(exact.quantize(Decimal(1).scaleb(size.adjusted() + 1 - _DIGITS), rounding=way))
