"""CSV and JSONL: text files that are cut at record starts, so that a piece is read from its own first byte."""

from __future__ import annotations

import abc
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa

from pe_beam.errors import DataError
from pe_beam.modalities.base import Fault
from pe_beam.sources import base, files
from pe_beam.sources.base import Piece, Source, SourceBatch
from pe_beam.sources.roles import Roles

MAX_RECORD = 16 << 20
"""Bytes of a record at most; a longer one is a reject, and memory stays flat."""
TOO_LONG = Fault(f"record of more than {MAX_RECORD >> 20} MB")
NOT_UTF8 = Fault("text that is not UTF-8")

Values = list[str | None]


@dataclass
class Record:
    """A record of a file: where it ends, and the values of the columns asked for or why there are none."""

    stop: int
    size: int
    values: Values = field(default_factory=list)
    fault: Fault | None = None


class LineReader:
    """Lines of a byte range with their offsets, none longer than `MAX_RECORD` in memory."""

    def __init__(self, file: BinaryIO, start: int = 0, stop: int | None = None) -> None:
        self._file = file
        self.position = start
        self._stop = stop
        if start:
            file.seek(start)

    def read(self) -> bytes:
        """The next line with its end, `b""` at the end of the range; of a line that is too long only its start."""
        left = MAX_RECORD + 1 if self._stop is None else min(MAX_RECORD + 1, self._stop - self.position)
        line = self._file.readline(left) if left > 0 else b""
        self.position += len(line)
        if len(line) <= MAX_RECORD:
            return line
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = self._file.readline(MAX_RECORD)
            self.position += len(rest)
        return line


class LinesSource(Source):
    """Records of text files, sorted by the bytes of their paths; every column is read as text.

    One pass over each file finds the offset of every `SHARD_ROWS`-th record; a piece is its own byte range, which is
    all that reading and digesting it touch.
    """

    endings: tuple[str, ...]
    kind: str

    def __init__(self, path: str, roles: Roles) -> None:
        self._path = path
        self._roles = roles
        self._key = roles.key

    @abc.abstractmethod
    def _head(self, lines: LineReader) -> tuple[bytes, list[str] | None]:
        """Reads what comes before the records: its bytes, and the column names; None: each record names its own."""

    @abc.abstractmethod
    def _records(self, lines: LineReader, columns: list[str], head: list[str] | None) -> Iterator[Record]:
        """The records of a range, with the values of `columns` in order."""

    def pieces(self) -> list[Piece]:
        """See Source."""
        with files.explained(self._key, self._path):
            found = files.find(self._path, self.endings)
        if not found:
            raise DataError(f"{self._key}: no {self.kind} files at {self._path}; a file, a folder or a glob is wanted")
        cuts = [piece for index, file in enumerate(found) for piece in self._cut(file, index)]
        if not cuts:
            raise DataError(f"{self._key}: the {self.kind} files at {self._path} have no rows; at least one is wanted")
        return cuts

    def _cut(self, file: str, index: int) -> Iterator[Piece]:
        with files.explained(self._key, file), files.open_file(file) as handle:
            lines = LineReader(handle)
            _, head = self._head(lines)
            self._check(head)
            begin, rows, stop = lines.position, 0, lines.position
            for record in self._records(lines, [], head):
                rows, stop = rows + 1, record.stop
                if rows % base.SHARD_ROWS == 0:
                    yield Piece(file, index, rows - base.SHARD_ROWS, rows, offset=begin, end=stop)
                    begin = stop
            if rows % base.SHARD_ROWS:
                yield Piece(file, index, rows - rows % base.SHARD_ROWS, rows, offset=begin, end=stop)

    def _check(self, head: list[str] | None) -> None:
        names = self._roles.columns() if head is None else head
        wanted = set(self._roles.columns())  # of a million columns Arrow makes a schema in seconds
        self._roles.check(pa.schema([(name, pa.string()) for name in names if name in wanted]))

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name = files.below(piece.file, self._path)
        columns = self._roles.columns()
        records: list[Record] = []
        size, first = 0, piece.start
        with files.explained(self._key, piece.file), files.open_file(piece.file) as handle:
            _, head = self._head(LineReader(handle))
            self._check(head)
            for record in self._records(LineReader(handle, piece.offset, piece.end), columns, head):
                if records and (size + record.size > base.BATCH_BYTES or len(records) == base.BATCH_ROWS):
                    yield self._batch(records, columns, name, first)
                    first, size, records = first + len(records), 0, []
                records.append(record)
                size += record.size
        if first + len(records) != piece.stop:
            raise DataError(f"{self._key}: a {self.kind} file is not what it was when it was listed")
        if records:
            yield self._batch(records, columns, name, first)

    def _batch(self, records: list[Record], columns: list[str], name: str, first: int) -> SourceBatch:
        faults = {i: record.fault for i, record in enumerate(records) if record.fault is not None}
        nothing: Values = [None] * len(columns)
        rows = [nothing if record.fault else record.values for record in records]
        arrays = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(columns))]
        places = [f"{name}:{first + i}" for i in range(len(records))]
        return self._roles.batch(pa.table(arrays, names=columns), places, faults)

    def digest(self, piece: Piece) -> str:
        """SHA-256 over the file's head, the piece's own bytes and its row range."""
        total = hashlib.sha256(b"pe_beam lines 1\0" + struct.pack(">2Q", piece.start, piece.stop))
        with files.explained(self._key, piece.file), files.open_file(piece.file) as handle:
            head, _ = self._head(LineReader(handle))
            total.update(struct.pack(">Q", len(head)) + head)
            handle.seek(piece.offset)
            left = piece.end - piece.offset
            while left > 0 and (chunk := handle.read(min(files.CHUNK, left))):
                total.update(chunk)
                left -= len(chunk)
        return total.hexdigest()
