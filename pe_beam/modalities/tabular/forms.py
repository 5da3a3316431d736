"""How a file writes values: forms of numbers, words for true, false and missing values, formats of dates."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from pe_beam.contracts.newer import NEWER

EPOCHS = {"unix": 1, "unix-ms": 10**3, "unix-us": 10**6, "unix-ns": 10**9}
"""Formats that count from 1970-01-01 UTC -> number of their units per second."""
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)


def folded(text: str) -> str:
    """Returns a name as it is compared: trimmed, in the Unicode form NFC."""
    return unicodedata.normalize("NFC", text).strip()


def _word(value: Any) -> Any:
    if value is None or isinstance(value, bool | date):
        raise ValueError("null, true, false, yes, no and dates have to be in quotes to be words of a file")
    text = folded(str(value)) if isinstance(value, str | int | float) else value
    if text == "":
        raise ValueError("an empty word; the empty text is a missing value anyway")
    return text


_ITEM = {"anyOf": [{"type": "string"}, {"type": "number"}]}
Word = Annotated[str, BeforeValidator(_word), WithJsonSchema(_ITEM)]
Words = tuple[Word, ...]


class Forms(BaseModel):
    """How texts of a file are read; of a table: for all its columns that say nothing themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    nulls: Annotated[Words | None, NEWER] = Field(
        None, description="words that stand for a missing value, such as [NA, '-', -999], besides the empty text"
    )
    decimal: Annotated[Literal[".", ","] | None, NEWER] = Field(
        None, description="sign before a number's fraction; null: a dot"
    )
    thousands: Annotated[Literal["", ",", ".", " ", "'", "_"] | None, NEWER] = Field(
        None, description="sign between groups of three digits, which may be left out; empty or null: none"
    )
    units: Annotated[Words | None, NEWER] = Field(
        None, description="signs or words that may stand before or after a number, such as [€, EUR, '%']; left out"
    )
    parentheses: Annotated[bool | None, NEWER] = Field(None, description="whether (12) is read as -12")
    true_words: Annotated[Words | None, NEWER] = Field(
        None, description="words of a boolean that are true, such as ['yes', Y], whatever their case"
    )
    false_words: Annotated[Words | None, NEWER] = Field(None, description="words of a boolean that are false")


FITTING: dict[str, tuple[str, ...]] = {
    "decimal": ("integer", "float"),
    "thousands": ("integer", "float"),
    "units": ("integer", "float"),
    "parentheses": ("integer", "float"),
    "true_words": ("boolean",),
    "false_words": ("boolean",),
}
"""Key -> the types of columns to which it applies; `nulls` applies to every type."""


def check_numbers(forms: Forms) -> None:
    """Raises ValueError for forms of numbers that contradict each other."""
    decimal = forms.decimal or "."
    if forms.thousands == decimal:
        other = "," if decimal == "." else "."
        raise ValueError(f"thousands: {decimal!r} is the decimal sign; declare decimal: {other!r}, or another sign")
    for unit in forms.units or ():
        if re.search(r"[0-9+()-]", unit) or unit in (decimal, forms.thousands):
            raise ValueError(f"units: {unit!r}: a word without digits and signs of a number is wanted")


def check_words(forms: Forms, values: tuple[str, ...] = ()) -> None:
    """Raises ValueError for words that mean two things."""
    if (forms.true_words is None) != (forms.false_words is None):
        raise ValueError("true_words and false_words: both are wanted, or none")
    yes, no = ({word.casefold() for word in words or ()} for words in (forms.true_words, forms.false_words))
    if forms.true_words is not None and not (yes and no):
        raise ValueError("true_words and false_words: at least one word each is wanted")
    if "false" in yes or "true" in no:
        raise ValueError("true_words and false_words: true is true, and false is false")
    nulls = set(forms.nulls or ())
    for key, twice in (("true_words", yes & no), ("nulls", {word.casefold() for word in nulls} & (yes | no))):
        if twice:
            raise ValueError(f"{key}: {min(twice)!r} cannot mean two things")
    if twice := nulls & {folded(value) for value in values}:
        raise ValueError(f"nulls: {min(twice)!r} is among the values")


@functools.lru_cache(maxsize=1024)
def number_pattern(decimal: str, thousands: str, units: tuple[str, ...], parentheses: bool) -> str:
    """Returns a regular expression of the declared numbers, with the groups that `numbers` joins."""
    point = re.escape(decimal)
    # A blank between thousands is often a no-break space, and an apostrophe is often typographic.
    between = {" ": "[ \\x{a0}\\x{202f}\\x{2009}]", "'": "['\\x{2019}]"}.get(thousands, re.escape(thousands))
    whole = f"[0-9]{{1,3}}(?:{between}[0-9]{{3}})+|[0-9]+" if thousands else "[0-9]+"
    unit = "|".join(re.escape(folded(each)) for each in sorted(units, key=len, reverse=True))
    front, back = (f"(?P<front>{unit})?\\s*", f"\\s*(?P<back>{unit})?") if units else ("(?P<front>)", "(?P<back>)")
    opened, closed = (r"(?P<open>\()?\s*", r"\s*(?P<close>\))?") if parentheses else ("(?P<open>)", "(?P<close>)")
    digits = f"(?P<whole>{whole})?(?:{point}(?P<part>[0-9]*))?(?P<power>[eE][+-]?[0-9]+)?"
    return f"^{opened}(?P<sign>[+-]?)\\s*{front}(?P<inner>[+-]?){digits}{back}{closed}$"


def numbers(texts: pa.Array, pattern: str) -> pa.Array:
    """Converts numbers in a declared form (trimmed, NFC) to plain form; null for a text that is not a number."""
    found = pc.extract_regex(texts, pattern)
    own = {field.name: pc.fill_null(pc.struct_field(found, field.name), "") for field in found.type}
    there = {name: pc.not_equal(part, "") for name, part in own.items()}
    fine = pc.and_(found.is_valid(), pc.or_(there["whole"], there["part"]))
    for a, b in (("front", "back"), ("sign", "inner"), ("open", "sign"), ("open", "inner")):
        fine = pc.and_(fine, pc.invert(pc.and_(there[a], there[b])))
    fine = pc.and_(fine, pc.equal(there["open"], there["close"]))
    sign = pc.if_else(there["open"], "-", pc.binary_join_element_wise(own["sign"], own["inner"], ""))
    whole = pc.replace_substring_regex(own["whole"], "[^0-9]", "")
    plain = pc.binary_join_element_wise(pc.utf8_ltrim(sign, "+"), "0", whole, ".", own["part"], "0", own["power"], "")
    return pc.if_else(fine, plain, pa.scalar(None, pa.string()))


@dataclass(frozen=True)
class DateFormat:
    """A declared format of dates, in directives of strptime with English names, whatever the locale is.

    Attributes:
      pattern: the regular expression of a whole text, with a group for each directive.
      parts: the directives, in order.
    """

    pattern: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> DateFormat:
        """Reads a format. Raises ValueError if it is not a format or is ambiguous."""
        tokens = re.findall(r"%.|%$|\s+|[^%\s]", text)
        pattern, parts = "", []
        for i, token in enumerate(tokens):
            if token.isspace():
                pattern += r"\s+"
            elif token == "%%" or (len(token) == 1 and token != "%"):
                if token.isdigit():
                    raise ValueError(f"format: {text!r}: digits of its own would be read as part of the date")
                pattern += re.escape(token[-1])
            elif token[1:] not in _PARTS:
                raise ValueError(f"format: {token!r} is not known; allowed: {', '.join('%' + x for x in _PARTS)}")
            else:
                near = [*tokens[max(i - 1, 0) : i], *tokens[i + 1 : i + 2]]
                tight = any(len(other) == 2 and other[1] in _DIGITS for other in near)
                parts.append(token[1])
                pattern += f"(?P<{token[1]}>{_PARTS[token[1]][tight]})"
        _check_parts(text, parts)
        return cls(f"^{pattern}$", tuple(parts))

    def codes(self, texts: pa.Array, *, days: bool, last_year: int) -> np.ndarray:
        """Returns days or seconds since 1970 of trimmed texts; NaN if a text has another form or is not a date.

        Args:
          texts: string (n,).
          days: True for days, in the zone that a text names; else seconds in UTC (a text without a zone is in UTC).
          last_year: years of two digits are in the hundred years up to it.
        """
        found = pc.extract_regex(texts, self.pattern)
        fine = np.asarray(found.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
        own = {part: pc.fill_null(pc.struct_field(found, part), "") for part in self.parts}
        year = _whole(own["Y"]) if "Y" in own else last_year - (last_year - _whole(own["y"])) % 100
        month = _month(own["b" if "b" in own else "B"]) if "m" not in own else _whole(own["m"])
        day = _whole(own["d"])
        fine &= (year >= 1) & (month >= 1) & (month <= 12)
        first = (year - 1970) * 12 + np.clip(month, 1, 12) - 1
        start, end = (at.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for at in (first, first + 1))
        fine &= (day >= 1) & (day <= end - start)
        hour, minute, second = (_whole(own[part]) if part in own else np.zeros_like(day) for part in "HMS")
        if "I" in own:
            clock = _whole(own["I"])
            fine &= (clock >= 1) & (clock <= 12)
            hour = clock % 12 + 12 * _is(own["p"], "pm")
        fine &= (hour < 24) & (minute < 60) & (second < 60)
        found_days = start + day - 1
        codes = found_days if days else found_days * 86400 + hour * 3600 + minute * 60 + second - _offset(own, len(day))
        return np.where(fine, codes.astype(np.float64), np.nan)


_TWO = ("[0-9]{1,2}", "[0-9]{2}")
_NAMES = "|".join([*_MONTHS, *(name[:3] for name in _MONTHS), "sept"])
_PARTS: dict[str, tuple[str, str]] = {
    "Y": ("[0-9]{4}",) * 2,
    "y": ("[0-9]{2}",) * 2,
    **dict.fromkeys("mdHIMS", _TWO),
    "b": (f"(?i:{_NAMES})\\.?",) * 2,
    "B": (f"(?i:{_NAMES})\\.?",) * 2,
    "f": ("[0-9]{1,9}", "[0-9]{6}"),
    "p": ("(?i:am|pm)",) * 2,
    "z": ("(?:[zZ]|[+-][0-9]{2}:?[0-9]{2})",) * 2,
}
"""Directive -> the pattern that it matches, and the pattern if digits are directly beside it."""
_DIGITS = "YymdHIMSf"


def _check_parts(text: str, parts: list[str]) -> None:
    twice = len(set(parts)) != len(parts) or any({*pair} <= {*parts} for pair in ("Yy", "mb", "mB", "bB", "HI"))
    if twice:
        raise ValueError(f"format: {text!r}: a part of the date comes twice")
    if not ({"Y", "y"} & {*parts} and {"m", "b", "B"} & {*parts} and "d" in parts):
        raise ValueError(f"format: {text!r}: year (%Y), month (%m) and day (%d) are wanted")
    if ("I" in parts) != ("p" in parts):
        raise ValueError(f"format: {text!r}: %I goes with %p, and %p with %I")


def _whole(texts: pa.Array) -> np.ndarray:
    """Returns digits as whole numbers, int64; 0 for an empty text."""
    filled = pc.if_else(pc.equal(texts, ""), "0", texts)
    return np.asarray(filled.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _month(texts: pa.Array) -> np.ndarray:
    """Returns months of English names, by their first three letters; 0 for another text."""
    short = pc.utf8_slice_codeunits(pc.utf8_lower(texts), 0, 3)
    found = pc.index_in(short, value_set=pa.array([name[:3] for name in _MONTHS]))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def _is(texts: pa.Array, word: str) -> np.ndarray:
    return np.asarray(pc.equal(pc.utf8_lower(texts), word).to_numpy(zero_copy_only=False), dtype=np.int64)


def _offset(own: dict[str, pa.Array], count: int) -> np.ndarray:
    """Returns seconds east of UTC, int64; 0 if the format has no zone."""
    if "z" not in own:
        return np.zeros(count, dtype=np.int64)
    texts = pc.replace_substring(own["z"], ":", "")
    hours, minutes = (_whole(pc.utf8_slice_codeunits(texts, at, at + 2)) for at in (1, 3))
    east = np.where(_is(pc.utf8_slice_codeunits(texts, 0, 1), "-"), -1, 1)
    return np.asarray(east * (hours * 3600 + minutes * 60))
