"""Messages that `pipelines/land.py` has written, of one window of a stream."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts import source as base
from pe_beam.contracts.cutting import cut_here
from pe_beam.contracts.landed import SCHEMA, VALUE, parse_slot
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source, SourceBatch, SourceRequest
from pe_beam.contracts.stream import Span
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.sources import files, finding
from pe_beam.sources.members import Members
from pe_beam.sources.messages import MessageOptions, Messages

TWICE = Fault("message that was delivered again")


def slot_of_file(file: str) -> Span | None:
    """Returns the slot whose folder a file lies in; None: it lies in none."""
    return parse_slot(file.rpartition("/")[0].rpartition("/")[2])


class LandedSource(Source):
    """The messages of one window, as `LandedStream` has cut it. `pe-beam stream` alone reads it.

    `Messages` says what a record is. A message that was delivered again is a reject wherever it comes after the first.
    """

    Options: ClassVar[type[Options]] = MessageOptions
    takes = frozenset({"columns", "client", "chat", "never_stop", "members"})

    @classmethod
    def open(cls, request: SourceRequest) -> LandedSource:
        """See Source."""
        options = MessageOptions.model_validate(request.options.model_dump())
        return cls(request.path, request.key, Messages(request, options), request.members)

    def __init__(self, path: str, key: str, messages: Messages, members: Mapping[str, Any] | None) -> None:
        self._path, self._key, self._messages = path, key, messages
        self._members = None if members is None else Members(members, key)
        self._twice = {} if members is None else {file: frozenset(rows) for file, rows in members["twice"].items()}

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source."""
        with files.explained(self._key, self._path):
            listed = finding.find_sized(self._path, (".parquet",)) if self._members is None else self._members.listed()
        found = [pair for pair in listed if slot_of_file(pair[0]) is not None]
        if not found:
            raise EmptyInputError(f"{self._key}: no files of pipelines/land.py below {self._path}")
        return [FilePart(file, index, size=size) for index, (file, size) in enumerate(found)]

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source. Reads all bytes of a file once."""
        if self._members is None:
            raise RecipeError(f"{self._key}: source landed is read window by window, by `pe-beam stream`")
        self._members.check(part.file)
        self._messages.check()
        rows = len(self._column(part.file))
        return FileCut(part, tuple(Piece(part.file, part.file_index, a, b) for a, b in base.cut(rows)))

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._key}: the window has no messages")

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name, twice = files.below(piece.file, self._path), self._twice.get(piece.file, frozenset())
        column = self._column(piece.file)
        held: list[bytes | Fault | None] = []
        first = piece.start
        for row in range(piece.start, piece.stop):
            held.append(TWICE if row in twice else column[row].as_py())
            if len(held) == base.BATCH_ROWS or row == piece.stop - 1:
                yield self._messages.batch(held, [f"{name}:{first + at}" for at in range(len(held))])
                held, first = [], row + 1

    def _column(self, file: str) -> pa.ChunkedArray:
        return read_column(file, VALUE, self._key)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the bytes of the file, the rows of the piece, and which of them came before."""
        twice = sorted(self._twice.get(piece.file, ()))
        total = hashlib.sha256(
            b"pe_beam landed 1\0" + struct.pack(f">3Q{len(twice)}Q", piece.start, piece.stop, len(twice), *twice)
        )
        with files.explained(self._key, piece.file):
            for chunk in files.chunks(piece.file):
                total.update(chunk)
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._messages.roles.refuse(seen)


def read_column(file: str, column: str, key: str) -> pa.ChunkedArray:
    """Returns a column of a file, which is written to fit into memory.

    Raises:
      DataError: it is no file of `pipelines/land.py`, or it is damaged.
    """
    with files.explained(key, file), files.open_file(file) as handle:
        try:
            found = pq.ParquetFile(handle)
            if not found.schema_arrow.equals(SCHEMA):
                raise DataError(f"{key}: a file there is none of pipelines/land.py; keep others out of its folder")
            return found.read([column])[column]
        except (pa.ArrowException, OSError):
            raise DataError(f"{key}: a file there is damaged, or is no Parquet file") from None


def repeated_rows(found: Sequence[str], columns: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Returns file -> rows whose position an earlier row has, of that file or of one before it.

    >>> repeated_rows(["a", "b"], [["1", "2", "1"], ["3", "2"]])
    {'a': [2], 'b': [1]}
    """
    seen: set[str] = set()
    rows: dict[str, list[int]] = {}
    for file, positions in zip(found, columns, strict=True):
        for row, position in enumerate(positions):
            if position in seen:
                rows.setdefault(file, []).append(row)
            seen.add(position)
    return rows
