"""Names that are compared: labels, columns, categories, folder names, client ids. One name in several spellings is one.

A spelling is a Unicode form, blanks around, or, for labels and client ids, the form in which a program has written a
whole number: pandas turns a column of whole numbers into floats as soon as one of them is missing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

JOINT = " | "
"""Between the values of several label columns. A value that holds it is no label."""
EXACT = 2**53
"""From here on a float cannot be told from its neighbours."""
_BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\0\u200b\u2060\ufeff"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_LEADING_ZEROS = re.compile(r"-?0[0-9]+")


def plain(text: str) -> str:
    """A name as it is compared: Unicode form NFC, no blanks around. Case counts.

    >>> plain(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip(_BLANKS)


def locate(name: str, among: Sequence[str]) -> list[int]:
    """Where a name is among others: where it stands exactly so, else where it is the same name.

    >>> locate("age", ["sex", " age"])
    [1]
    """
    exact = [i for i, other in enumerate(among) if other == name]
    if exact:
        return exact
    wanted = plain(name)
    return [i for i, other in enumerate(among) if plain(other) == wanted]


def digits(number: str) -> str | None:
    """The digits of a whole number that is written in any form; None for other numbers and no numbers.

    A leading zero makes a code, not a number.

    >>> digits("123.0"), digits("1E5"), digits("1.5"), digits("007")
    ('123', '100000', None, None)
    """
    if not _NUMBER.fullmatch(number):
        return None
    value = Decimal(number)
    return str(int(value)) if value == value.to_integral_value() else None


@lru_cache(maxsize=65536)
def number_or_text(text: str) -> str:
    """A name, a whole number by its digits: 123.0, 1.23e+02 and 1.23E2 are 123.

    An exponent without a point and a sign is text: 12e4 may be hexadecimal, and no program writes a float so.

    >>> [number_or_text(text) for text in (" 123", "1.0E7", "12e4", "4.50", "Anna ")]
    ['123', '10000000', '12e4', '4.50', 'Anna']
    """
    name = plain(text)
    found = _NUMBER.fullmatch(name)
    if not found or not (found[1] or (found[2] or "")[1:2] in "+-"):
        return name
    return digits(name) or name


@lru_cache(maxsize=65536)
def is_rounded(text: str) -> bool:
    """Whether a name is a float so large that others were rounded to it.

    >>> is_rounded("1.2345678901234568e+19"), is_rounded("12345678901234567890")
    (True, False)
    """
    found = _NUMBER.fullmatch(plain(text))
    return bool(found and (found[1] or found[2]) and abs(Decimal(found[0])) >= EXACT)


def has_leading_zeros(name: str) -> bool:
    """Whether a name is a code that loses digits where it is taken for a number."""
    return bool(_LEADING_ZEROS.fullmatch(name))


def label_key(text: str) -> str:
    """A label as it is compared: as `number_or_text`, and true and false in any case.

    >>> label_key("True "), label_key("4.0"), label_key("Yes")
    ('true', '4', 'Yes')
    """
    name = number_or_text(text)
    lower = name.lower()
    return lower if lower in ("true", "false") else name


def label_parts(label: str, *, several: bool) -> tuple[str, ...]:
    """A label's values as they are compared, one of each of its columns.

    >>> label_parts("Bars | 5.0", several=True)
    ('Bars', '5')
    """
    return tuple(label_key(part) for part in (label.split(JOINT) if several else [label]))
