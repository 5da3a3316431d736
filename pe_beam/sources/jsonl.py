"""JSONL files: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pe_beam.modalities.base import Fault
from pe_beam.sources.lines import MAX_RECORD, NOT_UTF8, TOO_LONG, LineReader, LinesSource, Record, Values

NOT_JSON = Fault("line that is not a JSON object")
TWICE = Fault("line with the same name twice in an object")
NO_SCALAR = Fault("value that is no text, number, true, false or null")


class JsonlSource(LinesSource):
    """A JSON object a line, in UTF-8. Blank lines are skipped; a key that is not there is null.

    Numbers are taken as they are written, true and false as those words. A line that is no object, too long or not
    UTF-8, or in which a name comes twice or a wanted value is a list or an object, is a reject of its own.
    """

    endings = (".jsonl", ".ndjson")
    kind = "JSONL"

    def _head(self, lines: LineReader) -> tuple[bytes, None]:
        return b"", None

    def _records(self, lines: LineReader, columns: list[str], head: list[str] | None) -> Iterator[Record]:
        while line := lines.read():
            if line.isspace():
                continue
            record = Record(lines.position, len(line))
            if len(line) > MAX_RECORD:
                record.fault = TOO_LONG
            elif columns:
                record.values, record.fault = _read(line, columns)
            yield record


class _TwiceError(Exception):
    """A name comes twice: which of its values is meant cannot be told."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=str)


def _read(line: bytes, columns: list[str]) -> tuple[Values, Fault | None]:
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
    values: Values = []
    for column in columns:
        value: Any = found.get(column)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if value is not None and not isinstance(value, str):
            return [], NO_SCALAR
        if value is not None and not value.isascii() and not _encodable(value):
            return [], NOT_UTF8
        values.append(value)
    return values, None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
