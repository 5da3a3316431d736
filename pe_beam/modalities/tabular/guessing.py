"""Guesses the type and the forms of a public column of texts: those that accept every text of the column."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.modalities.tabular.columns import EXACT, NUMBERS, Column
from pe_beam.modalities.tabular.forms import DateFormat
from pe_beam.modalities.tabular.reading import TOO_LARGE, read_column

KNOWN_NULLS = frozenset(
    (
        *("NA", "N/A", "n/a", "na", "#N/A", "<NA>", "NaN", "NaT", "nan", "null", "NULL", "Null", "None", "none", "nil"),
        *("\\N", "#NULL!", "-", "--", "---", "?", ".", "..", "missing", "Missing", "unknown", "Unknown"),
    )
)
"""Words that are proposed as missing values beside numbers, dates and booleans. Among categories they are values,
unless all other categories are whole numbers."""
WORDS = (
    *(("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("ja", "nein"), ("j", "n"), ("oui", "non"), ("sí", "no")),
    *(("si", "no"), ("sì", "no"), ("sim", "não"), ("ja", "nee"), ("tak", "nie")),
)
_UNITS = ("€", "$", "£", "¥", "%", "EUR", "USD", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "kr", "zł", "PLN")
_SIGNS: tuple[dict[str, str], ...] = (
    {},
    {"thousands": ","},
    {"decimal": ","},
    {"thousands": " "},
    {"thousands": "'"},
    {"decimal": ",", "thousands": "."},
    {"decimal": ",", "thousands": " "},
)
_DAYS = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y"),
    *("%m/%d/%y", "%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%b %d, %Y", "%d. %B %Y"),
)
_TIMES = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f", "%H:%M:%S%z", "%H:%M:%S %z")
_MOMENTS = tuple(f"{day}{between}{time}" for day in _DAYS for time in _TIMES for between in (" ", ", "))
_WIDEST: dict[str, tuple[Any, Any]] = {
    "integer": (1 - EXACT, EXACT - 1),
    "float": (-8e307, 8e307),
    "date": ("0001-01-01", "9999-12-31"),
    "datetime": ("0001-01-01", "9999-12-31T23:59:59"),
}
_TWO_DIGITS = ("1969-01-01", "2068-12-31")
"""Bounds for the guess with years of two digits: those of strptime."""
_WHOLE = r"^[+-]?[0-9]+$"
_CODE = r"^[+-]?0[0-9]"
"""A number with a leading zero is a code: 01 and 1 are different."""
_MIDNIGHT = r"[T ]00:00(:00(\.0+)?)?([zZ]|[+-][0-9:]+)?$"
"""The time that pandas writes for a date without a time."""


@dataclass(frozen=True)
class Guess:
    """A column's type, the keys that say how to read its texts, and a note for its owner."""

    type: str
    forms: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


CATEGORIES = Guess("categorical")


def guess_type(texts: pa.Array) -> str:
    """Returns the type that accepts every text (trimmed, none empty) without a declared form."""
    return next((guess.type for guess in _plain(texts) if _takes(texts, guess)), CATEGORIES.type)


def guess(texts: pa.Array) -> Guess:
    """Returns the type and forms that accept every text (trimmed, none empty) of a public column."""
    distinct = pc.unique(texts)
    plain = next((found for found in _plain(distinct) if _takes(distinct, found)), None)
    if plain is not None:
        return plain
    nulls = sorted(KNOWN_NULLS.intersection(distinct.to_pylist()))
    known = distinct.filter(pc.invert(pc.is_in(distinct, value_set=pa.array(nulls, pa.string()))))
    if len(known):
        for found in (*_plain(known), *_words(known), *_written_numbers(known), *_written_dates(known)):
            if _takes(known, found):
                own = [word for word in nulls if found.type not in ("integer", "float") or word.lower() != "nan"]
                return Guess(found.type, {**found.forms, **({"nulls": own} if own else {})}, found.note)
    codes = pc.all(pc.match_substring_regex(known, _WHOLE)).as_py()
    return Guess("categorical", {"nulls": nulls}) if nulls and len(known) and codes else CATEGORIES


def widest(kind: str, forms: Mapping[str, Any] | None = None) -> Column:
    """Returns a column of a type with the widest bounds, which accepts every value of the type."""
    forms = forms or {}
    ends = _TWO_DIGITS if "%y" in forms.get("format", "") else _WIDEST.get(kind)
    bounds = dict(zip(("min", "max"), ends, strict=True)) if ends and kind in NUMBERS else {}
    return Column.model_validate({"type": kind, "missing": True, **bounds, **forms})


def _takes(texts: pa.Array, guess: Guess) -> bool:
    if guess.type == "categorical" or not len(texts):
        return False
    if guess.type == "date" and "format" not in guess.forms:
        at_night = pc.or_(pc.less_equal(pc.utf8_length(texts), 10), pc.match_substring_regex(texts, _MIDNIGHT))
        if not pc.all(at_night).as_py():
            return False
    codes, bad = read_column(texts, widest(guess.type, guess.forms))
    return not bad and bool(np.isfinite(codes).any())


def _plain(texts: pa.Array) -> Iterator[Guess]:
    """Yields types whose texts need no form. Numbers that pandas has written with a fraction of zero are whole."""
    if not len(texts):
        return
    if pc.any(pc.match_substring_regex(texts, _CODE)).as_py():
        yield from (Guess("date"), Guess("datetime"))
    elif pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
        yield Guess("integer")
    else:
        distinct = {text.removesuffix(".0") for text in texts.to_pylist()} if len(texts) <= 4 else set()
        yield from [Guess("boolean")] if distinct == {"0", "1"} else []
        yield from (Guess(kind) for kind in ("integer", "float", "boolean", "date", "datetime"))


def _words(texts: pa.Array) -> Iterator[Guess]:
    found = {text.casefold() for text in texts.to_pylist()} if len(texts) <= 16 else set()
    for yes, no in WORDS:
        if found == {yes, no}:
            yield Guess("boolean", {"true_words": [yes], "false_words": [no]})


def _written_numbers(texts: pa.Array) -> Iterator[Guess]:
    """Yields forms of numbers, with the units that occur. If two forms accept all texts, the note says so."""
    if pc.any(pc.match_substring_regex(texts, _CODE)).as_py() or not _few_words(texts):
        return
    if _takes(texts, Guess("float")):  # whole numbers that are too large to be exact
        return
    units = [unit for unit in _UNITS if pc.any(pc.match_substring(texts, unit)).as_py()]
    common: dict[str, Any] = {"units": units} if units else {}
    if pc.any(pc.match_substring_regex(texts, r"^\(.*\)$")).as_py():
        common["parentheses"] = True
    forms = [common | signs for signs in _SIGNS if common | signs]
    taken = [form for form in forms if _takes(texts, Guess("float", form))]
    if not taken or TOO_LARGE in read_column(texts, widest("integer", taken[0]))[1]:
        return
    other = _other(texts, "float", taken)
    note = f"its numbers may have the decimal sign {other.get('decimal', '.')!r} as well: check it" if other else ""
    yield Guess("integer", taken[0], note)
    yield Guess("float", taken[0], note)


def _other(texts: pa.Array, kind: str, taken: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns a form that also accepts all texts, but reads another value in one of them; None: there is none."""
    codes = [read_column(texts, widest(kind, form))[0] for form in taken]
    others = (form for form, own in zip(taken, codes, strict=True) if not np.array_equal(own, codes[0], equal_nan=True))
    return next(others, None)


def _few_words(texts: pa.Array) -> bool:
    """Returns whether most of the texts have a digit, so that further checks make sense."""
    return bool(2 * pc.sum(pc.match_substring_regex(texts, "[0-9]")).as_py() > len(texts))


def _written_dates(texts: pa.Array) -> Iterator[Guess]:
    """Yields formats of dates. If day and month may be exchanged, the note says so."""
    if not _few_words(texts):
        return
    first = texts[0].as_py()
    for kind, formats in (("date", _DAYS), ("datetime", _MOMENTS)):
        likely = [form for form in formats if _pattern(form).fullmatch(first)]
        taken = [{"format": form} for form in likely if _takes(texts, Guess(kind, {"format": form}))]
        if taken:
            other = _other(texts, kind, taken)
            note = f"its dates may be {other['format']} as well as {taken[0]['format']}: check it" if other else ""
            yield Guess(kind, taken[0], note)


@functools.cache
def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(DateFormat.of(form).pattern)
