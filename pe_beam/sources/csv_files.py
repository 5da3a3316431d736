"""CSV files: a header, then RFC 4180 records, as the standard library's reader takes them."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator

from pe_beam.errors import DataError
from pe_beam.modalities.base import Fault
from pe_beam.sources import files
from pe_beam.sources.lines import MAX_RECORD, NOT_UTF8, TOO_LONG, LineReader, LinesSource, Record, Values

_BOM = b"\xef\xbb\xbf"
_LIMIT = threading.Lock()


class CsvSource(LinesSource):
    """Comma-separated UTF-8 with a header. Blank lines are skipped; an empty field is the empty text.

    A record whose number of fields is not the header's, that is too long, or whose wanted fields are not UTF-8 is a
    reject of its own, and the next record is read as usual. A quote that is never closed takes what follows it
    into one record, up to `MAX_RECORD`; reading goes on at the line after.
    """

    endings = (".csv",)
    kind = "CSV"

    def _head(self, lines: LineReader) -> tuple[bytes, list[str]]:
        return _head(lines, self._key)

    def _check(self, head: list[str] | None) -> None:
        if head and not set(head) & set(self._roles.columns()):
            check_separator(head, self._key)
        super()._check(head)

    def _records(self, lines: LineReader, columns: list[str], head: list[str] | None) -> Iterator[Record]:
        names = head or []
        picked = [names.index(column) for column in columns]
        width, start = len(names), lines.position
        for fields in _parsed(lines):
            record = Record(lines.position, lines.position - start)
            start = lines.position
            if isinstance(fields, Fault):
                record.fault = fields
            elif len(fields) != width:
                record.fault = Fault("row with a wrong number of fields", f"{len(fields)} fields")
            elif picked:
                record.values, record.fault = _picked(fields, picked)
            yield record


def header(path: str, key: str) -> list[str]:
    """The names that the first record of a file gives; raises DataError, also where commas do not part them."""
    with files.explained(key, path), files.open_file(path) as handle:
        names = _head(LineReader(handle), key)[1]
    check_separator(names, key)
    return names


def check_separator(names: list[str], key: str) -> None:
    """Refuses a header that is one column with semicolons or tabs in it; it is not shown, for it may be a record."""
    for sign, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and sign in names[0]:
            raise DataError(
                f"{key}: the header of a CSV file there is one column with {word} in it; commas are wanted between "
                "columns, and no other separator can be set: write the file anew"
            )


def _head(lines: LineReader, key: str) -> tuple[bytes, list[str]]:
    raw: list[bytes] = []
    start = lines.position
    for fields in _parsed(lines, raw):
        if isinstance(fields, Fault):
            break
        try:
            return b"".join(raw), [_utf8(name) for name in fields]
        except UnicodeDecodeError:
            break
    if lines.position == start:
        raise DataError(f"{key}: a CSV file there is empty; a header is wanted")
    raise DataError(f"{key}: the header of a CSV file there cannot be read; UTF-8 up to 16 MB is wanted")


def _picked(fields: list[str], picked: list[int]) -> tuple[Values, Fault | None]:
    values: Values = []
    for i in picked:
        text = fields[i]
        if not text.isascii():
            try:
                text = _utf8(text)
            except UnicodeDecodeError:
                return [], NOT_UTF8
        values.append(text)
    return values, None


class _TooLongError(Exception):
    """The lines of one record are more than `MAX_RECORD` bytes."""


class _Feed:
    """Lines as latin-1 text, a character a byte. Goes on after an error, at the next line."""

    def __init__(self, lines: LineReader, raw: list[bytes] | None) -> None:
        self._lines, self._raw = lines, raw
        self.size = 0
        """Bytes of the record that is being read; its reader sets it back."""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        first = self._lines.position == 0
        line = self._lines.read()
        if not line:
            raise StopIteration
        self.size += len(line)
        if self.size > MAX_RECORD:
            raise _TooLongError
        if self._raw is not None:
            self._raw.append(line)
        return line.removeprefix(_BOM if first else b"").decode("latin-1")


def _parsed(lines: LineReader, raw: list[bytes] | None = None) -> Iterator[list[str] | Fault]:
    """Records as fields of latin-1 text, so that a bad byte spoils its own record alone; blank lines are skipped."""
    _raise_limit()
    feed = _Feed(lines, raw)
    reader = csv.reader(feed)  # after an error it begins anew
    while True:
        feed.size = 0
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _TooLongError:
            yield TOO_LONG
        except csv.Error:
            yield Fault("row that is not CSV")
        else:
            if fields:
                yield fields


def _utf8(text: str) -> str:
    return text.encode("latin-1").decode("utf-8")


def _raise_limit() -> None:
    """The standard library's limit of a field is a process's, and lower than ours: never made lower here."""
    with _LIMIT:
        if csv.field_size_limit() < MAX_RECORD:
            csv.field_size_limit(MAX_RECORD)
