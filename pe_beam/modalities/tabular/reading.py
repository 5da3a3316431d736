"""Reads a file's column as a declared column: returns codes and faults. NumPy and Arrow.

A value has the same code in every Arrow type that may hold it. For example, a category may be text, a whole number, or
the number with a fraction of zero that pandas writes beside missing values.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.content import is_text, text_column
from pe_beam.modalities.tabular.columns import EXACT, Column
from pe_beam.modalities.tabular.forms import EPOCHS, DateFormat, folded, number_pattern, numbers

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"^[+-]?(?i:nan|inf|infinity)$"
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.0+)?")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]0*")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

NO_NUMBER = "value that is no number"
NOT_FINITE = "number that is not finite"
TOO_LARGE = "whole number of 2^53 or more"
NOT_WHOLE = "not a whole number"
NO_BOOLEAN = "value that is not true or false"
NO_CATEGORY = "category that is not declared"
NO_DATE = {"date": "value that is no date", "datetime": "value that is no date and time"}
OUTSIDE = "value out of its declared bounds"
MISSING = "missing value"


def is_number(kind: pa.DataType) -> bool:
    """Returns whether a type holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def zone_is_known(kind: pa.DataType) -> bool:
    """Returns whether the local day of a timestamp is known: the machine has the zone, or there is no zone."""
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return True
    try:
        local_time(pa.array([0], pa.int64()).cast(kind))
    except pa.ArrowInvalid:
        return False
    return True


def read_column(array: pa.Array, column: Column) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the codes of a file's column, float64 (n,), and kind of fault -> rows that have it, bool (n,)."""
    array, bad = _plain(array)
    if is_text(array.type):
        nothing = {*(column.nulls or ()), ""} - set(_lookup(column).exact if column.choices else ())
        words = pc.is_in(array, value_set=pa.array(sorted(nothing), pa.string()))
        array = pc.if_else(words, pa.scalar(None, pa.string()), array)
    codes, faults = _codes(array, column)
    bad |= faults
    if column.nulls and not column.choices:
        codes[np.isin(codes, _null_codes(column))] = np.nan
    if column.stepped and not column.whole:
        codes = column.nearest(codes)
    missing = np.isnan(codes)
    for rows in bad.values():
        missing &= ~rows
    finite = np.isfinite(codes)
    if not column.choices:
        bad[NOT_FINITE] = np.isinf(codes)
    if column.whole and not column.choices:
        bad[TOO_LARGE] = finite & (np.abs(codes) >= EXACT)
        bad[NOT_WHOLE] = finite & (codes != np.floor(codes))
    outside = finite & ((codes < column.low) | (codes > column.high))
    if column.outside == "clip":
        codes = np.where(outside, np.clip(codes, column.low, column.high), codes)
    else:
        bad[OUTSIDE] = outside
    if not column.missing:
        bad[MISSING] = missing
    return codes, {kind: rows for kind, rows in bad.items() if rows.any()}


def _plain(array: pa.Array) -> tuple[pa.Array, dict[str, np.ndarray]]:
    """Returns an array without dictionary, its text trimmed and in NFC, and the rows with unreadable text (null)."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    bad: dict[str, np.ndarray] = {}
    if is_text(array.type):
        array, faults = text_column(array)
        for row, fault in faults.items():
            bad.setdefault(fault.kind, np.zeros(len(array), dtype=bool))[row] = True
        if not pc.all(pc.string_is_ascii(array)).as_py():  # Arrow's own utf8_normalize gives NFD whatever is asked
            array = pa.array([None if x is None else unicodedata.normalize("NFC", x) for x in array.to_pylist()])
        array = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return array, bad


def _codes(array: pa.Array, column: Column) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns codes, NaN for a missing or unreadable value, and kind of fault -> unreadable rows."""
    if column.choices:
        return _chosen(array, column)
    if column.type in ("date", "datetime"):
        return _moments(array, column)
    return _numbers(array, column)


@functools.lru_cache(maxsize=1024)
def _null_codes(column: Column) -> np.ndarray:
    """Returns the codes of words for a missing value that are numbers or dates: -999 is also -999.0."""
    plain = column.model_copy(update={"nulls": None})
    words = pa.array(column.nulls or (), pa.string())
    found = [_codes(words, plain)[0]]
    if column.type in ("date", "datetime"):
        found.append(_codes(words, plain.model_copy(update={"format": None}))[0])
    codes = np.concatenate(found)
    return codes[np.isfinite(codes)]


def _numbers(array: pa.Array, column: Column) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if not is_text(array.type):
        return _floats(array.cast(pa.float64(), safe=False)), {}
    if any((column.decimal, column.thousands, column.units, column.parentheses)):
        signs = (column.decimal or ".", column.thousands or "", column.units or (), bool(column.parentheses))
        texts = numbers(array, number_pattern(*signs))
    else:
        fine = pc.match_substring_regex(array, _NUMBER)
        texts = pc.utf8_ltrim(pc.if_else(fine, array, pa.scalar(None, pa.string())), characters="+")
    codes = _floats(texts.cast(pa.float64()))
    odd = _mask(pc.fill_null(pc.match_substring_regex(array, _NOT_FINITE), False))
    if odd.any():
        codes[odd] = [float(text) for text in array.filter(pa.array(odd)).to_pylist()]
    return codes, {NO_NUMBER: _mask(array.is_valid()) & ~_mask(texts.is_valid()) & ~odd}


class _Lookup:
    """Maps a value of a file to its position among a column's choices."""

    def __init__(self, column: Column) -> None:
        boolean = column.type == "boolean"
        names = {folded(text): code for code, text in enumerate(column.choices)}
        for code, words in enumerate((column.false_words, column.true_words)):
            names |= {word.casefold(): code for word in words or ()}
        if boolean and all(_number_text(name) is None for name in names):
            names |= {"0": 0, "1": 1}
        self.exact = names
        self._fold = str.casefold if boolean else str
        self._unknown = NO_BOOLEAN if boolean else NO_CATEGORY
        self._nulls = {_number_text(word) for word in column.nulls or ()} - {None}
        # 1.0 is the code 1, unless codes have fractions: then 401.0 and 401 may be different.
        self._fractions = any(_FRACTION.fullmatch(name) for name in names)
        meant: dict[str, set[int]] = {}
        for name, code in names.items():
            if (number := _number_text(name)) is not None:
                meant.setdefault(number, set()).add(code)
        self._numbers = {number: min(codes) for number, codes in meant.items() if len(codes) == 1}
        self._flags = {flag: self._flag(flag) for flag in (True, False)}

    def _flag(self, flag: bool) -> int | None:
        same = [code for name, code in self.exact.items() if name.casefold() == str(flag).lower()]
        return same[0] if len(same) == 1 else self._numbers.get(str(int(flag)))

    def find(self, value: Any) -> tuple[float, str | None]:
        """Returns the code of a value; NaN for a missing value; NaN and the kind of fault for an unknown value."""
        if value is None or (isinstance(value, np.floating) and np.isnan(value)):
            return np.nan, None
        code: int | None = None
        number: str | None
        if isinstance(value, bool):
            code, number = self._flags[value], None
        elif isinstance(value, str):
            code = self.exact.get(self._fold(value))
            number = _number_text(value) if _WHOLE.fullmatch(value) and not self._fractions else None
        elif isinstance(value, int):
            code, number = self.exact.get(str(value)), str(value)
        else:
            number = _number_text(str(value))
            if not np.isfinite(float(value)):
                return np.nan, NOT_FINITE
            if isinstance(value, np.floating) and abs(float(value)) >= EXACT:
                return np.nan, TOO_LARGE
        if code is None and number is not None:
            if number in self._nulls:
                return np.nan, None
            code = self._numbers.get(number)
        return (np.nan, self._unknown) if code is None else (float(code), None)


def _number_text(text: str) -> str | None:
    """Returns the shortest text of a number: 1 of 1.00, 1.5 of 1.50; None: not a number, or a code such as 01."""
    if _WHOLE.fullmatch(text):
        whole = text.partition(".")[0]
        return "0" if whole == "-0" else whole
    return text.rstrip("0") if _FRACTION.fullmatch(text) else None


@functools.lru_cache(maxsize=4096)
def _lookup(column: Column) -> _Lookup:
    return _Lookup(column)


def _chosen(array: pa.Array, column: Column) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns codes of choices. Each distinct value is looked up once."""
    lookup = _lookup(column)
    encoded = array.dictionary_encode()
    values = encoded.dictionary
    # NumPy keeps float32: 0.1 is written as 0.1 and not as 0.10000000149.
    distinct = list(values.to_numpy(zero_copy_only=False)) if pa.types.is_floating(values.type) else values.to_pylist()
    found = [lookup.find(value) for value in distinct]
    at = pc.fill_null(encoded.indices, len(found)).to_numpy(zero_copy_only=False)
    codes = np.array([*(code for code, _ in found), np.nan])[at]
    faults = {}
    for kind in {kind for _, kind in found if kind is not None}:
        faults[kind] = np.array([*(own == kind for _, own in found), False])[at]
    return codes, faults


def _moments(array: pa.Array, column: Column) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    codes = _since_1970(array, column)
    return codes, {NO_DATE[column.type]: np.isnan(codes) & _mask(array.is_valid())}


def _since_1970(array: pa.Array, column: Column) -> np.ndarray:
    """Returns whole days or seconds since 1970, rounded down; NaN if a value is missing or not a date.

    A day is in the zone of the timestamp or the text. A second is in UTC.
    """
    days = column.type == "date"
    if pa.types.is_timestamp(array.type):
        per = _PER_SECOND[array.type.unit] * (86400 if days else 1)
        return _floored((local_time(array) if days else array).cast(pa.int64()), per)
    if pa.types.is_date64(array.type):
        return _floored(array.cast(pa.int64()), 86_400_000 if days else 1000)
    if pa.types.is_date(array.type):
        return _floats(array.cast(pa.int32()).cast(pa.float64())) * (1 if days else 86400)
    if column.format in EPOCHS:
        return _since_epoch(array, EPOCHS[column.format], days=days)
    if not is_text(array.type):
        array = _written(array)
    if column.format is not None:
        return _formatted(column).codes(array, days=days, last_year=_year(column))
    texts = array.to_pylist()
    return np.array([np.nan if text is None else _iso(text, days=days) for text in texts], dtype=np.float64)


def local_time(array: pa.Array) -> pa.Array:
    """Returns timestamps without a zone, in the local time of the zone that they had."""
    kind = array.type
    if kind.tz is None:
        return array
    if kind.tz.upper() in ("UTC", "Z", "GMT", "ZULU"):
        return array.cast(pa.timestamp(kind.unit))
    return pc.local_timestamp(array)


def _floored(whole: pa.Array, per: int) -> np.ndarray:
    """Returns int64 // per, exactly, as float64. A float64 cannot hold nanoseconds since 1970 exactly."""
    values = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False)
    return np.where(_mask(whole.is_valid()), np.floor_divide(values, per).astype(np.float64), np.nan)


def _since_epoch(array: pa.Array, per: int, *, days: bool) -> np.ndarray:
    """Returns days or seconds of numbers that count from 1970. Only whole numbers are exact for small units."""
    if pa.types.is_integer(array.type):
        return _floored(array.cast(pa.int64(), safe=False), per * (86400 if days else 1))
    if is_text(array.type):
        array = pc.if_else(pc.match_substring_regex(array, _NUMBER), array, pa.scalar(None, pa.string()))
        array = pc.utf8_ltrim(array, characters="+")
    values = _floats(array.cast(pa.float64(), safe=False))
    return np.floor(np.where(np.isfinite(values), values, np.nan) / per / (86400 if days else 1))


def _written(array: pa.Array) -> pa.Array:
    """Returns numbers that write a date (20260131, or 20260131.0) as text. A fraction becomes "", which is no date."""
    values = _floats(array.cast(pa.float64(), safe=False))
    fine = np.isfinite(values) & (np.abs(values) < EXACT) & (values == np.floor(values))
    whole = pa.array(np.where(fine, values, 0).astype(np.int64)).cast(pa.string())
    return pc.if_else(pa.array(fine), whole, pc.if_else(pa.array(np.isnan(values)), pa.scalar(None, pa.string()), ""))


@functools.lru_cache(maxsize=4096)
def _formatted(column: Column) -> DateFormat:
    return DateFormat.of(column.format or "")


def _year(column: Column) -> int:
    """Returns the last year within a column's bounds."""
    text = str(column.max)
    return date.fromisoformat(text).year if column.type == "date" else datetime.fromisoformat(text).year


def _iso(text: str, *, days: bool) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return np.nan
    if days:
        return float(found.date().toordinal() - date(1970, 1, 1).toordinal())
    return float(np.floor((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()))


def _floats(array: pa.Array) -> np.ndarray:
    """Returns float64, NaN for null, writable."""
    return np.array(array.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _mask(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)
