"""Reads a JSON object as the wanted columns of a record."""

from __future__ import annotations

import json
from typing import Any

from pe_beam import names
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import UNREAD
from pe_beam.sources.chat import NO_MESSAGES, chat_text
from pe_beam.sources.lines import NOT_UTF8, Values, Wanted
from pe_beam.sources.roles import Roles

NO_SCALAR = Fault("value that is no text, number, true, false or null")
COLUMN, OBJECTS = "column ", "objects"
"""Facts of a batch: that a record has a column (with its name behind), and that there are objects at all."""


class ObjectReader:
    """Reads objects in UTF-8. A key that is absent is null.

    A column name with dots is a key of that name, or else a path into nested objects: `review.body`. Numbers are taken
    as they are written, but whole numbers in labels and client ids as plain digits. true and false are taken as these
    words. An object is a fault if a name comes twice in it, or if a wanted value is a list or an object. With `chat`
    lists of messages are read as text.
    """

    def __init__(self, roles: Roles, *, chat: bool = False, noun: str = "line") -> None:
        """Takes the roles of columns, and what messages call a record ("line", "message")."""
        self._chat = chat
        client = () if roles.client is None else (roles.client,)
        self._heads = {names.plain(head) for column in (*roles.columns(), *roles.unused) for head in _heads(column)}
        self._named = frozenset((*roles.label, *client))
        self._not_json = Fault(f"{noun} that is not a JSON object")
        self._twice = Fault(f"{noun} with the same name twice in an object")

    def read(self, data: bytes, wanted: Wanted) -> tuple[Values, Fault | None]:
        """Returns the values of the wanted columns as text, in order, or a fault. Notes facts in `wanted.seen`."""
        try:
            found = _DECODER.decode(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            return [], NOT_UTF8
        except _TwiceError:
            return [], self._twice
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return [], self._not_json
        wanted.seen.add(OBJECTS)
        if UNREAD not in wanted.seen and not self._heads.issuperset(found):
            wanted.seen |= {UNREAD for key in found if names.plain(key) not in self._heads}
        values: Values = []
        for column in wanted.columns:
            value = found.get(column, _ABSENT)
            if value is _ABSENT:
                value = _inside(found, column)
            if value is _ABSENT:
                values.append(wanted.given.get(column))
                continue
            wanted.seen.add(COLUMN + column)
            value = self._text(value, column)
            if isinstance(value, Fault):
                return [], value
            values.append(value)
        return values, None

    def _text(self, value: Any, column: str) -> str | Fault | None:
        if self._chat and isinstance(value, list) and column not in self._named:
            value = chat_text(value)
            if value is None:
                return NO_MESSAGES
        if isinstance(value, bool):
            value = "true" if value else "false"
        if value is not None and not isinstance(value, str):
            return NO_SCALAR
        if isinstance(value, _Number) and column in self._named:
            value = names.digits(value) or value
        if value is not None and not value.isascii() and not _encodable(value):
            return NOT_UTF8
        return value


def _heads(column: str) -> list[str]:
    """Returns the keys that may lead to a column: its name, and what is before each of its dots."""
    return [column, *(column[:at] for at, sign in enumerate(column) if sign == ".")]


_ABSENT = object()


class _TwiceError(Exception):
    """A name comes twice in an object, so it is unclear which value is meant."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=str)


def _inside(found: dict[str, Any], column: str) -> Any:
    """Returns the value of a column that is not itself a key: its name in another spelling, or a path with dots.

    >>> _inside({"a.b": {"c": 1}}, "a.b.c")
    1
    """
    where = names.locate(column, list(found)) if not (column.isascii() and all(map(str.isascii, found))) else []
    if where:
        return found[list(found)[where[0]]]
    head = column
    while "." in head:
        head = head.rpartition(".")[0]
        within = found.get(head)
        if isinstance(within, dict):
            rest = column[len(head) + 1 :]
            value = within.get(rest, _ABSENT)
            value = _inside(within, rest) if value is _ABSENT else value
            if value is not _ABSENT:
                return value
    return _ABSENT


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
