"""Compares names: labels, columns, categories, folder names, client ids. Several spellings of a name count as one.

Spellings differ in Unicode form and in blanks around the name. For labels and client ids they also differ in the form
of a whole number: pandas converts a column of whole numbers to floats as soon as one of them is missing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import lru_cache

JOINT = " | "
"""Separator of the values of several label columns. A value that contains it cannot be a label."""
EXACT = 2**53
"""From this number on, different whole numbers may be the same float."""
LONGEST = 1000
"""Signs of the longest text that is taken as a number; a longer one is text. Python refuses to write 4,301 digits, and
takes minutes to read a million."""
_BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\0\u200b\u2060\ufeff"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_ABSENT = frozenset(
    (
        *("na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "nil", "#null!", "\\n"),
        *("-", "--", "---", "?", ".", "..", "missing", "unknown"),
    )
)
_LEADING_ZEROS = re.compile(r"-?0[0-9]+")


def plain(text: str) -> str:
    """Returns the form of a name that is compared: Unicode form NFC, no blanks around. Case counts.

    >>> plain(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip(_BLANKS)


def locate(name: str, among: Sequence[str]) -> list[int]:
    """Returns the positions of a name among others: exact matches, or if there are none, other spellings of it.

    >>> locate("age", ["sex", " age"])
    [1]
    """
    exact = [i for i, other in enumerate(among) if other == name]
    if exact:
        return exact
    wanted = plain(name)
    return [i for i, other in enumerate(among) if plain(other) == wanted]


def digits(number: str) -> str | None:
    """Returns the digits of a whole number in any form, or None for other numbers and other texts.

    A text with a leading zero is a code, not a number, and so is one of more than `LONGEST` signs.

    >>> digits("123.0"), digits("1E5"), digits("1.5"), digits("007")
    ('123', '100000', None, None)
    """
    if not _number(number):
        return None
    value = Decimal(number)
    return str(int(value)) if value == value.to_integral_value() else None


@lru_cache(maxsize=65536)
def number_or_text(text: str) -> str:
    """Returns a name as `plain` does, and a whole number as its digits: 123.0, 1.23e+02 and 1.23E2 become 123.

    A number with an exponent, without a point and a sign, is text: 12e4 may be hexadecimal, and no program writes a
    float in this form.

    >>> [number_or_text(text) for text in (" 123", "1.0E7", "12e4", "4.50", "Anna ")]
    ['123', '10000000', '12e4', '4.50', 'Anna']
    """
    name = plain(text)
    found = _number(name)
    if not found or not (found[1] or (found[2] or "")[1:2] in "+-"):
        return name
    return digits(name) or name


@lru_cache(maxsize=65536)
def is_rounded(text: str) -> bool:
    """Returns whether a name is a float so large that other numbers round to it.

    >>> is_rounded("1.2345678901234568e+19"), is_rounded("12345678901234567890")
    (True, False)
    """
    found = _number(plain(text))
    return bool(found and (found[1] or found[2]) and abs(Decimal(found[0])) >= EXACT)


def has_leading_zeros(name: str) -> bool:
    """Returns whether a name is a code that loses digits if it is read as a number."""
    return bool(_LEADING_ZEROS.fullmatch(name))


def label_key(text: str) -> str:
    """Returns the form of a label that is compared: that of `number_or_text`, with true and false in lower case.

    >>> label_key("True "), label_key("4.0"), label_key("Yes")
    ('true', '4', 'Yes')
    """
    name = number_or_text(text)
    lower = name.lower()
    return lower if lower in ("true", "false") else name


def label_parts(label: str, *, several: bool) -> tuple[str, ...]:
    """Returns the values of a label, one per label column, in the form that is compared.

    >>> label_parts("Bars | 5.0", several=True)
    ('Bars', '5')
    """
    return tuple(label_key(part) for part in (label.split(JOINT) if several else [label]))


class Declared:
    """Declared names, to say of another name in which way it is none of them, without showing it."""

    def __init__(self, names: Iterable[str]) -> None:
        cases = [plain(name).casefold() for name in names]
        self._cases, self._letters = frozenset(cases), frozenset(map(_letters, cases))

    def variety(self, name: str | None) -> str:
        """Returns one of a few fixed phrases about a name that is not declared.

        >>> [Declared(["New York"]).variety(name) for name in ("new york", "New-York", "N/A", "402")]
        ['in another case', 'with other blanks or signs', 'a word for a missing value', 'another number']
        """
        if name is None or not plain(name):
            return "missing"
        case = plain(name).casefold()
        if case in self._cases:
            return "in another case"
        if _letters(case) and _letters(case) in self._letters:
            return "with other blanks or signs"
        if case in _ABSENT:
            return "a word for a missing value"
        return "another number" if _number(case) else "another text"


def _number(text: str) -> re.Match[str] | None:
    return _NUMBER.fullmatch(text) if len(text) <= LONGEST else None


def _letters(text: str) -> str:
    return "".join(each for each in text if each.isalnum())
