"""Text files such as CSV and JSONL. They are cut where records start, so a piece is read from its own first byte."""

from __future__ import annotations

import abc
import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar

import pyarrow as pa

from pe_beam import names as spelling
from pe_beam.contracts import source as base
from pe_beam.contracts.cutting import THREADS, cut_here
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source, SourceBatch
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.sources import files, finding, forms, partitions, scanning
from pe_beam.sources.members import Members
from pe_beam.sources.roles import Roles
from pe_beam.sources.splits import choose_split, split_path

MAX_RECORD = 16 << 20
"""Largest size of a record in bytes. A longer record is a reject, so memory stays bounded."""
TOO_LONG = Fault(f"record of more than {MAX_RECORD >> 20} MB")
NOT_UTF8 = Fault("text that is not UTF-8")
LEAST_RANGE, MOST_RANGE = 8 << 20, 64 << 20
"""Bytes of a range of a large file. Pieces do not depend on them."""
RANGES = 64
"""Ranges that a file is cut into, unless they would be smaller or larger than that."""
_NO_END = 1 << 62
_BLANKS = b" \t\n\r\x0b\x0c"

Values = list[str | None]


@dataclass
class Record:
    """A record of a file: the byte after its last, its size in bytes, and the wanted values or a fault."""

    stop: int
    size: int
    values: Values = field(default_factory=list)
    fault: Fault | None = None


@dataclass
class Wanted:
    """What to read from the records of a range.

    Attributes:
      columns: the columns whose values are wanted, in order.
      head: the names in the file's header; None: each record has its own names.
      given: column -> the value for records that do not have the column.
      seen: collects facts that reading shows (`SourceBatch.seen`).
    """

    columns: list[str]
    head: list[str] | None
    given: dict[str, str | None] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class LineReader:
    """Reads the lines of a byte range in bounded memory. `position` is the byte after the last line read."""

    def __init__(self, file: BinaryIO, start: int = 0, stop: int | None = None) -> None:
        self._file = file
        self.position = start
        self._stop = stop
        if start:
            file.seek(start)

    def read(self) -> bytes:
        """Returns the next line with its end, or `b""` at the end of the range. Cuts off a line that is too long."""
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

    def back(self, position: int) -> None:
        """Goes back to an earlier line, which is read next."""
        self._file.seek(position)
        self.position = position


class LinesSource(Source):
    """Records of text files, sorted by the bytes of their paths. Every column is read as text.

    One pass over each file, or over its byte ranges in parallel (`scanning`), finds the offset of every `SHARD_ROWS`-th
    record. A piece is a byte range. To read or digest a piece, only this range and the head of the file are read.
    """

    endings: tuple[str, ...]
    kind: str
    splits: ClassVar[bool] = False
    """Whether a large file is scanned in several ranges."""

    def __init__(self, path: str, roles: Roles, *, never_stop: bool = False, members: Members | None = None) -> None:
        self._path, self._split = split_path(path)
        self._never_stop = never_stop
        self._members = members
        self._roles = roles
        self._key = roles.key

    @abc.abstractmethod
    def _head(self, lines: LineReader) -> tuple[bytes, list[str] | None]:
        """Reads the head of a file. Returns its bytes and the column names; None: each record has its own names."""

    @abc.abstractmethod
    def _records(self, lines: LineReader, wanted: Wanted) -> Iterator[Record]:
        """Yields the records of a range, with the values of the wanted columns in order."""

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source. A large file is several byte ranges, if records can be found from its middle."""
        with files.explained(self._key, self._path):
            every = finding.find_sized(self._path, self.endings) if self._members is None else self._members.listed()
            found = choose_split(every, self._path, self._split, self._key)
        if not found:
            raise finding.no_files(self._path, self._key, self.kind)
        parts: list[FilePart] = []
        for index, (file, size) in enumerate(found):
            step = max(LEAST_RANGE, min(MOST_RANGE, -(-size // RANGES))) if self.splits else max(size, 1)
            starts = range(0, max(size, 1), step)
            parts += [FilePart(file, index, a, min(a + step, max(size, 1)), size, min(step, size)) for a in starts]
        return parts

    def listed(self) -> list[tuple[str, int]]:
        """See Source."""
        if self._members is not None:
            return self._members.listed()
        with files.explained(self._key, self._path):
            return finding.find_there(self._path, self.endings)

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source."""
        if self._members is not None:
            self._members.check(part.file)
        with files.explained(self._key, part.file), files.open_file(part.file, part.size) as handle:
            if part.start == 0 and not self._never_stop:  # its first bytes are a record, which decides over no other
                forms.refuse(handle.read(forms.HEAD), part.file, self._key, self.kind)
                handle.seek(0)
            lines = LineReader(handle)
            _, head = self._head(lines)
            if part.start == 0:
                self._check(head, self._given(part.file))
                begin = lines.position
            else:
                begin = scanning.first_line(handle, part.start, part.stop)
            if begin < 0 or begin >= part.stop:
                return FileCut(part, scan=scanning.Scan(begin, begin))
            last = part.stop if part.stop < part.size else None
            return FileCut(part, scan=self._scan(handle, head, begin, last))

    def join_cuts(self, cuts: Sequence[FileCut]) -> list[Piece]:
        """See Source."""
        file, index = cuts[0].part.file, cuts[0].part.file_index
        begin = max(cuts[0].scan.begin, 0)
        ends = [cut.part.stop for cut in cuts[:-1]] + [_NO_END]
        scans = scanning.join_scans(
            zip(ends, (cut.scan for cut in cuts), strict=True), begin, lambda start: self._ends(file, start)
        )
        rows = sum(scan.records for scan in scans)
        places = scanning.boundaries(scans, base.SHARD_ROWS)
        with ThreadPoolExecutor(THREADS) as pool:
            stops = list(pool.map(lambda place: self._settled(file, *place), places))
        if rows % base.SHARD_ROWS:
            stops.append(max(scan.last for scan in scans))
        return [
            Piece(file, index, start, stop, offset=offset, end=end)
            for (start, stop), offset, end in zip(base.cut(rows), [begin, *stops], stops, strict=False)
        ]

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            what = f"the {self.kind} files at {self._path} have no rows"
            raise EmptyInputError(f"{self._key}: {what}; one at least is wanted")

    def _scan(self, handle: BinaryIO, head: list[str] | None, begin: int, stop: int | None) -> scanning.Scan:
        """Returns the records that begin from a byte on and before another; None: to the end of the file.

        Here every line end ends a record, and a line of white space is none.
        """
        blanks = scanning.Blanks(_BLANKS, MAX_RECORD + 1)
        return scanning.scan_lines(handle, begin, _NO_END if stop is None else stop, blanks)

    def _ends(self, file: str, start: int) -> Iterator[tuple[int, bool]]:
        """Yields the byte after each record from a byte on, and True; for blank lines False may be yielded."""
        with files.explained(self._key, file), files.open_file(file) as handle:
            _, head = self._head(LineReader(handle))
            for record in self._records(LineReader(handle, start), Wanted([], head)):
                yield record.stop, True

    def _settled(self, file: str, place: int, more: int) -> int:
        """Returns the byte after a number of records from a place on."""
        for end, is_record in self._ends(file, place) if more else ():
            more -= is_record
            place = end
            if not more:
                return place
        if more:
            raise DataError(f"{self._key}: a {self.kind} file is not what it was when it was listed")
        return place

    def _given(self, file: str) -> dict[str, str | None]:
        """Returns the wanted columns that folder names (`seg=gold/`) give. A value in a record takes precedence."""
        return partitions.given(file, self._path, self._roles.columns())

    def _check(self, head: list[str] | None, given: dict[str, str | None]) -> None:
        """Raises DataError if a column is absent. The columns of a JSONL file are known only from all its records."""
        wanted = self._roles.columns()
        counts = {column: 1 if head is None else len(spelling.locate(column, head)) for column in wanted}
        self._roles.check(
            pa.schema([(column, pa.string()) for column in wanted for _ in range(counts[column] or column in given)])
        )

    def _unread(self, head: list[str] | None) -> frozenset[str]:
        read = {at for column in self._roles.columns() for at in spelling.locate(column, head or [])}
        return self._roles.unread(head or (), read)

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name = files.below(piece.file, self._path)
        given = self._given(piece.file)
        records: list[Record] = []
        size, first = 0, piece.start
        with files.explained(self._key, piece.file), files.open_file(piece.file) as handle:
            _, head = self._head(LineReader(handle))
            self._check(head, given)
            wanted = Wanted(self._roles.columns(), head, given, set(self._unread(head)))
            for record in self._records(LineReader(handle, piece.offset, piece.end), wanted):
                if records and (size + record.size > base.BATCH_BYTES or len(records) == base.BATCH_ROWS):
                    yield self._batch(records, wanted, name, first)
                    first, size, records = first + len(records), 0, []
                records.append(record)
                size += record.size
        if first + len(records) != piece.stop:
            raise DataError(f"{self._key}: a {self.kind} file is not what it was when it was listed")
        if records:
            yield self._batch(records, wanted, name, first)

    def _batch(self, records: list[Record], wanted: Wanted, name: str, first: int) -> SourceBatch:
        columns = wanted.columns
        faults = {i: record.fault for i, record in enumerate(records) if record.fault is not None}
        nothing: Values = [None] * len(columns)
        rows = [nothing if record.fault else record.values for record in records]
        arrays = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(columns))]
        places = [f"{name}:{first + i}" for i in range(len(records))]
        return self._roles.batch(pa.table(arrays, names=columns), places, faults, wanted.seen)

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._roles.refuse(seen)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the file's head, the piece's bytes and row range, and the columns of folder names."""
        total = hashlib.sha256(b"pe_beam lines 1\0" + struct.pack(">2Q", piece.start, piece.stop))
        with files.explained(self._key, piece.file), files.open_file(piece.file) as handle:
            head, columns = self._head(LineReader(handle))
            total.update(struct.pack(">Q", len(head)) + head)
            total.update(partitions.given_digest(self._given(piece.file), columns or []))
            handle.seek(piece.offset)
            left = piece.end - piece.offset
            while left > 0 and (chunk := handle.read(min(files.CHUNK, left))):
                total.update(chunk)
                left -= len(chunk)
        return total.hexdigest()
