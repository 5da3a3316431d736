"""CSV files: a header, then RFC 4180 records, read with the standard library's `csv` module."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from pe_beam import names as spelling
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Encoding, SourceRequest
from pe_beam.errors import DataError
from pe_beam.sources import files, forms, scanning
from pe_beam.sources.csv_parsing import fits, parse, width_of
from pe_beam.sources.lines import MAX_RECORD, NOT_UTF8, LineReader, LinesSource, Record, Values, Wanted
from pe_beam.sources.roles import Roles

_NO_END = 1 << 62
_BLOCK = 4 << 20
_HELD = 4096


class CsvSource(LinesSource):
    """CSV files in UTF-8, or as declared, with a header. Blank lines are skipped. An empty field is the empty text.

    A record is a reject if its number of fields differs from the header's, if it is too long, or if a wanted field is
    not in that encoding. The next record is read as usual. Additional empty fields at its end are allowed.

    A quoted field may contain line ends. A record of several lines is treated as a quote that is not closed if it does
    not match the header: no quote closes it, something other than a separator follows the quote, it is too long, or it
    has too many or too few fields. Then its first line is the reject, and the next line is read as usual. So one
    damaged line never swallows others.
    """

    kind = "CSV"
    splits = True
    takes = frozenset({"columns", "client", "separator", "encoding"})
    # Not never_stop: a quote can swallow other records.

    @classmethod
    def open(cls, request: SourceRequest) -> CsvSource:
        """See Source."""
        return cls(request.path, Roles.asked(request), request.separator, request.encoding)

    def __init__(self, path: str, roles: Roles, separator: str = ",", encoding: Encoding = "utf-8") -> None:
        super().__init__(path, roles)
        self._separator, self._encoding = separator, encoding
        self.endings = (".csv", ".tsv", ".tab") if separator == "\t" else (".csv",)

    def _head(self, lines: LineReader) -> tuple[bytes, list[str]]:
        return _head(lines, self._key, self._separator, self._encoding)

    def _check(self, head: list[str] | None, given: dict[str, str | None]) -> None:
        if head and not any(spelling.locate(column, head) for column in self._roles.columns()):
            check_separator(head, self._key, self._separator)
        super()._check(head, given)

    def _scan(self, handle: BinaryIO, head: list[str] | None, begin: int, stop: int | None) -> scanning.Scan:
        """See LinesSource. Quotes may hold line ends, so that a range with a quote in it is parsed."""
        if not _has_quote(handle, begin, stop):
            handle.seek(begin)
            end = _NO_END if stop is None else stop
            return scanning.scan_lines(handle, begin, end, scanning.Blanks(b"\r\n", MAX_RECORD + 1))
        found, held = scanning.Scan(begin, begin), []
        for end, is_record in self._parsed_ends(LineReader(handle, begin), head):
            if is_record:
                held.append(end)
            if len(held) == _HELD:
                found.add(np.array(held, np.int64))
                held = []
            found.end = end
            if stop is not None and end >= stop:
                break
        found.add(np.array(held, np.int64))
        return found

    def _ends(self, file: str, start: int) -> Iterator[tuple[int, bool]]:
        with files.explained(self._key, file), files.open_file(file) as handle:
            _, head = self._head(LineReader(handle))
            yield from self._parsed_ends(LineReader(handle, start), head)

    def _parsed_ends(self, lines: LineReader, head: list[str] | None) -> Iterator[tuple[int, bool]]:
        for fields in parse(lines, self._separator, width_of(head or [])):
            yield lines.position, bool(fields)

    def _records(self, lines: LineReader, wanted: Wanted) -> Iterator[Record]:
        names = wanted.head or []
        where = [spelling.locate(column, names) for column in wanted.columns]
        picked = [places[0] if places else None for places in where]
        instead = [wanted.given.get(column) for column in wanted.columns]
        width, start = width_of(names), lines.position
        for fields in parse(lines, self._separator, width):
            if not fields:
                continue
            record = Record(lines.position, lines.position - start)
            start = lines.position
            if isinstance(fields, Fault):
                record.fault = fields
            elif not fits(fields, width):
                record.fault = Fault("row with a wrong number of fields", f"{len(fields)} fields")
            elif picked:
                record.values, record.fault = self._picked(fields, picked, instead)
            yield record

    def _picked(self, fields: list[str], picked: list[int | None], instead: Values) -> tuple[Values, Fault | None]:
        values: Values = []
        for i, other in zip(picked, instead, strict=True):
            if i is None:
                values.append(other)
                continue
            text = fields[i]
            if not text.isascii():
                try:
                    text = _decoded(text, self._encoding)
                except UnicodeDecodeError:
                    return [], NOT_UTF8 if self._encoding == "utf-8" else Fault(f"text that is not {self._encoding}")
            values.append(text)
        return values, None


def header(path: str, key: str, separator: str = ",", encoding: Encoding = "utf-8") -> list[str]:
    """Returns the names in the first record of a file. Raises DataError, also if the separator seems to be wrong."""
    with files.explained(key, path), files.open_file(path) as handle:
        forms.refuse(handle.read(forms.HEAD), path, key, "CSV")
        handle.seek(0)
        names = _head(LineReader(handle), key, separator, encoding)[1]
    check_separator(names, key, separator)
    return names


def check_separator(names: list[str], key: str, separator: str = ",") -> None:
    """Raises DataError for one column that contains other separators. It may be a record, so it is not shown."""
    for sign, word in forms.SEPARATORS.items():
        if len(names) == 1 and sign in names[0] and sign != separator:
            known = forms.SEPARATORS[separator]
            raise DataError(
                f"{key}: the header of a CSV file there is one column with {word} in it; {known} are wanted between "
                f"columns, or data.separator: {'tab' if sign == chr(9) else repr(sign)}"
            )


def _head(lines: LineReader, key: str, separator: str, encoding: Encoding) -> tuple[bytes, list[str]]:
    start = lines.position
    held: list[bytes] = []
    for fields in parse(lines, separator, None, held):
        if not fields:
            continue
        if isinstance(fields, Fault):
            break
        data = b"".join(held)
        if encoding != "utf-8" and data.startswith(codecs.BOM_UTF8):
            raise DataError(
                f"{key}: a CSV file there has the mark of UTF-8 at its start; data.encoding: utf-8 is wanted"
            )
        try:
            return data, [_decoded(name, encoding) for name in fields]
        except UnicodeDecodeError:
            break
    if lines.position == start:
        raise DataError(f"{key}: a CSV file there is empty; a header is wanted")
    more = f"; {forms.ENCODINGS}" if encoding == "utf-8" else ""
    raise DataError(f"{key}: the header of a CSV file there cannot be read; {encoding} up to 16 MB is wanted{more}")


def _has_quote(file: BinaryIO, begin: int, stop: int | None) -> bool:
    """Returns whether a byte range, or the line that goes on behind it, has a quote."""
    file.seek(begin)
    left = _NO_END if stop is None else stop - begin
    last = b""
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        if b'"' in block:
            return True
        left, last = left - len(block), block[-1:]
    while last != b"\n" and (line := file.readline(_BLOCK)):
        if b'"' in line:
            return True
        last = line[-1:]
    return False


def _decoded(text: str, encoding: Encoding) -> str:
    """Decodes a field, of which each character is a byte of the file."""
    return text.encode("latin-1").decode(encoding)
