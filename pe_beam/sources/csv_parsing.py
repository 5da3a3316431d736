"""Parses CSV records, so that a damaged line spoils itself alone."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator

from pe_beam.contracts.record import Fault
from pe_beam.sources.lines import MAX_RECORD, TOO_LONG, LineReader

NOT_CLOSED = Fault("quote that is not closed")
_BOM = b"\xef\xbb\xbf"
_LIMIT = threading.Lock()


def width_of(names: list[str]) -> tuple[int, int]:
    """Returns the number of fields of a header without and with the empty fields at its end.

    A row has a number of fields between the two. It may have more if the additional fields are empty.
    """
    named = len(names)
    while named and not names[named - 1].strip():
        named -= 1
    return named, len(names)


def fits(fields: list[str], width: tuple[int, int]) -> bool:
    """Returns whether a record has a fitting number of fields (`width_of`)."""
    return width[0] <= len(fields) <= width[1] or (
        len(fields) > width[1] and not any(field.strip() for field in fields[width[1] :])
    )


class _TooLongError(Exception):
    """The lines of one record are more than `MAX_RECORD` bytes."""


class _Feed:
    """Iterates over lines as latin-1 text, one character per byte. After an error it continues at the next line."""

    def __init__(self, lines: LineReader) -> None:
        self._lines = lines
        self.held: list[bytes] = []
        """Lines of the record that is being read, as bytes."""
        self.second = self._size = 0
        self.ended = False
        """Whether the lines ended within the record, which means that a quote is open."""

    def begin(self) -> None:
        """Starts a record at the next line."""
        self.held.clear()
        self._size = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._lines.read()
        if not line:
            self.ended = bool(self.held)
            raise StopIteration
        if not self.held:
            self.second = self._lines.position
        self.held.append(line)
        self._size += len(line)
        if self._size > MAX_RECORD:
            raise _TooLongError
        first = self._lines.position == len(line)
        return line.removeprefix(_BOM if first else b"").decode("latin-1")

    def read_as_several(self) -> None:
        """Goes back to the second line of the record, which then begins a record."""
        self._lines.back(self.second)
        self.ended = False


def parse(
    lines: LineReader, separator: str, width: tuple[int, int] | None, held: list[bytes] | None = None
) -> Iterator[list[str] | Fault]:
    """Yields records as fields of latin-1 text, so that a bad byte spoils only its own record. A blank line has none.

    Args:
      lines: the lines to read.
      separator: the sign between fields.
      width: the width of the header (`width_of`); None: this is the header.
      held: receives the lines of each record as bytes, with the blank lines before it.
    """
    _raise_limit()
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=separator)  # after an error it begins anew
    while True:
        feed.begin()
        found: list[str] | Fault
        try:
            found = next(reader)
        except StopIteration:
            return
        except _TooLongError:
            found = TOO_LONG
        except csv.Error:
            found = Fault("row that is not CSV")
        if held is not None:
            held += feed.held
        if (len(feed.held) > 1 or feed.ended) and (
            isinstance(found, Fault) or not _is_closed(feed.held, separator, width)
        ):
            feed.read_as_several()
            reader = csv.reader(feed, delimiter=separator)
            yield NOT_CLOSED
        else:
            yield found


def _is_closed(held: list[bytes], separator: str, width: tuple[int, int] | None) -> bool:
    """Returns whether lines are one record with correct quotes and a fitting number of fields."""
    text = [line.removeprefix(_BOM).decode("latin-1") for line in held]
    try:
        (fields,) = csv.reader(text, delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        return False
    return width is None or fits(fields, width)


def _raise_limit() -> None:
    """Raises the `csv` module's field limit to `MAX_RECORD`. The whole process shares it, so it is never lowered."""
    with _LIMIT:
        if csv.field_size_limit() < MAX_RECORD:
            csv.field_size_limit(MAX_RECORD)
