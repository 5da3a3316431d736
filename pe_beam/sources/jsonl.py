"""JSONL files: one object per line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from pe_beam import names
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import SourceRequest
from pe_beam.errors import DataError
from pe_beam.sources import files, finding
from pe_beam.sources.chat import NO_MESSAGES, chat_text
from pe_beam.sources.lines import MAX_RECORD, NOT_UTF8, TOO_LONG, LineReader, LinesSource, Record, Values, Wanted
from pe_beam.sources.members import Members, members_of
from pe_beam.sources.roles import Roles

NOT_JSON = Fault("line that is not a JSON object")
TWICE = Fault("line with the same name twice in an object")
NO_SCALAR = Fault("value that is no text, number, true, false or null")
_COLUMN, _OBJECTS = "column ", "objects"


class JsonlSource(LinesSource):
    """Files of one JSON object per line, in UTF-8. Blank lines are skipped. A key that is absent is null.

    A column name with dots is a key of that name, or else a path into nested objects: `review.body`. Numbers are taken
    as they are written, but whole numbers in labels and client ids as plain digits. true and false are taken as these
    words. A line is a reject if it is not an object, is too long, or is not UTF-8, if a name comes twice in an object,
    or if a wanted value is a list or an object. `chat` takes lists of messages as text.
    """

    endings = (".jsonl", ".ndjson")
    kind = "JSONL"
    splits = True
    takes = frozenset({"columns", "client", "chat", "never_stop", "members"})

    @classmethod
    def open(cls, request: SourceRequest) -> JsonlSource:
        """See Source."""
        return cls(request.path, Roles.asked(request), chat=request.chat, members=members_of(request))

    def __init__(self, path: str, roles: Roles, *, chat: bool = False, members: Members | None = None) -> None:
        super().__init__(path, roles, members=members)
        self._chat = chat
        client = () if roles.client is None else (roles.client,)
        self._named = frozenset((*roles.label, *client))

    def _head(self, lines: LineReader) -> tuple[bytes, None]:
        return b"", None

    def _records(self, lines: LineReader, wanted: Wanted) -> Iterator[Record]:
        while line := lines.read():
            if line.isspace():
                continue
            record = Record(lines.position, len(line))
            if len(line) > MAX_RECORD:
                record.fault = TOO_LONG
            elif wanted.columns:
                record.values, record.fault = self._read(line, wanted)
            yield record

    def _read(self, line: bytes, wanted: Wanted) -> tuple[Values, Fault | None]:
        try:
            found = _DECODER.decode(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            return [], NOT_UTF8
        except _TwiceError:
            return [], TWICE
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return [], NOT_JSON
        wanted.seen.add(_OBJECTS)
        values: Values = []
        for column in wanted.columns:
            value = found.get(column, _ABSENT)
            if value is _ABSENT:
                value = _inside(found, column)
            if value is _ABSENT:
                values.append(wanted.given.get(column))
                continue
            wanted.seen.add(_COLUMN + column)
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

    def refuse(self, seen: Collection[str]) -> None:
        """See Source. Also raises DataError for a column that no record has and no folder name gives."""
        super().refuse(seen)
        by_role = self._roles.by_role().items()
        missing = [(role, column) for role, columns in by_role for column in columns if _COLUMN + column not in seen]
        if not missing or _OBJECTS not in seen:
            return
        with files.explained(self._key, self._path):
            given = {column for file in finding.find(self._path, self.endings) for column in self._given(file)}
        for role, column in missing:
            if column not in given:
                raise DataError(
                    f"data.columns.{role}: {column!r}: no record of {self._key} has a key of that name; one that some "
                    "of them have is wanted (case counts; a dot leads into an object)"
                )


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
