"""Parquet files."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.cutting import cut_here
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import (
    BATCH_BYTES,
    BATCH_ROWS,
    FileCut,
    FilePart,
    Piece,
    Source,
    SourceBatch,
    SourceRequest,
    cut,
)
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.sources import files, finding, forms, partitions
from pe_beam.sources.layout import Layout, paths_of
from pe_beam.sources.members import Members, members_of
from pe_beam.sources.roles import Roles
from pe_beam.sources.splits import choose_split, split_path

BUFFER = 4 << 20
DAMAGED = Fault("row of a damaged part of a Parquet file")
_KEPT = 4096  # files whose digests are kept: pieces of a file are read at about one time, and a stream has ever more


class ParquetSource(Source):
    """Rows of Parquet files, sorted by the bytes of their paths.

    A column name with dots is a column of that name, or else a path into structs: `review.body`. Folder names give
    columns that a file lacks (`partitions.partition`). `chat` takes lists of messages as text.

    With `never_stop` the rows of a piece from its first damaged batch on are rejects; a damaged footer stops a run.

    Only the wanted columns and the row groups that overlap a piece are read, one batch at a time. Row groups of far
    more than `SHARD_ROWS` rows are slow: each piece decodes them from their first row to its own last row.
    """

    takes = frozenset({"columns", "client", "chat", "never_stop", "members"})

    @classmethod
    def open(cls, request: SourceRequest) -> ParquetSource:
        """See Source."""
        return cls(
            request.path,
            Roles.asked(request),
            chat=request.chat,
            never_stop=request.never_stop,
            members=members_of(request),
        )

    def __init__(
        self,
        path: str,
        roles: Roles,
        *,
        chat: bool = False,
        never_stop: bool = False,
        members: Members | None = None,
    ) -> None:
        self._path, self._split = split_path(path)
        self._never_stop = never_stop
        self._members = members
        self._roles = roles
        self._key = roles.key
        self._chat = chat

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source."""
        with files.explained(self._key, self._path):
            every = finding.find_sized(self._path, (".parquet",)) if self._members is None else self._members.listed()
            found = choose_split(every, self._path, self._split, self._key)
        if not found:
            raise finding.no_files(self._path, self._key, "Parquet")
        return [FilePart(file, index, size=size) for index, (file, size) in enumerate(found)]

    def listed(self) -> list[tuple[str, int]]:
        """See Source."""
        if self._members is not None:
            return self._members.listed()
        with files.explained(self._key, self._path):
            return finding.find_there(self._path, (".parquet",))

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source. Reads only the footer, and of a member of a window all bytes once."""
        if self._members is not None:
            self._members.check(part.file)
        with self._open(part.file, part.size) as reader:
            self._layout(reader.schema_arrow, part.file)
            rows = reader.metadata.num_rows
        return FileCut(part, tuple(Piece(part.file, part.file_index, a, b) for a, b in cut(rows)))

    def digested(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """See Source. A file of one piece is digested where that piece is read."""
        if len(pieces) < 2:
            return pieces
        with files.explained(self._key, pieces[0].file):
            seen = _look(pieces[0].file)
            whole = (_file_digest(pieces[0].file).hex(), seen)
        return [replace(piece, whole=whole) for piece in pieces]

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(
                f"{self._key}: the Parquet files at {self._path} have no rows; one at least is wanted"
            )

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name = files.below(piece.file, self._path)
        with self._open(piece.file) as reader:
            layout = self._layout(reader.schema_arrow, piece.file)
            unread = self._roles.unread(
                layout.own.names, {path[0] for paths in layout.paths.values() for path in paths}
            )
            groups, position, mean = _overlap(reader.metadata, piece)
            size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, mean)))
            done = piece.start
            if groups:
                batches = reader.iter_batches(size, groups, layout.leaves())
                while done < piece.stop and (batch := self._next(batches)) is not None:  # None: damaged, or no more
                    low, high = max(piece.start - position, 0), min(piece.stop - position, len(batch))
                    position += len(batch)
                    if low < high:
                        yield self._batch(layout.table(batch.slice(low, high - low)), name, done, unread)
                        done += high - low
            if done != piece.stop and not self._never_stop:
                raise DataError(f"{self._key}: a Parquet file has fewer rows than when it was listed")
            yield from self._damaged(layout.schema(), name, done, piece.stop)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the digest of the whole file, the row range, and the columns that folder names give.

        The digest of a file is computed once per process, or comes with the piece (`digested`).
        """
        with files.explained(self._key, piece.file):
            known, seen = piece.whole or ("", "")
            whole = bytes.fromhex(known) if known and seen == _look(piece.file) else _file_digest(piece.file)
        total = hashlib.sha256(b"pe_beam parquet 1\0" + whole + struct.pack(">2Q", piece.start, piece.stop))
        given = self._given(piece.file)
        if given:
            with self._open(piece.file) as reader:
                own = [column for column in given if paths_of(column, reader.schema_arrow)]
            total.update(partitions.given_digest(given, own))
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._roles.refuse(seen)

    def _given(self, file: str) -> dict[str, str | None]:
        return partitions.given(file, self._path, self._roles.columns())

    def _layout(self, schema: pa.Schema, file: str) -> Layout:
        """Returns the layout of a file. Raises DataError if a wanted column is absent or of a wrong type."""
        layout = Layout(schema, self._roles.columns(), self._given(file), self._chat)
        self._roles.check(layout.schema())
        return layout

    @contextlib.contextmanager
    def _open(self, file: str, size: int = 0) -> Iterator[pq.ParquetFile]:
        """Opens a file. Explains the errors of opening it, but not those of the code inside the context."""
        with contextlib.ExitStack() as stack:
            with self._explained(file, "is no Parquet file, or a truncated one"):
                handle = stack.enter_context(contextlib.closing(files.open_file(file, size)))
                try:
                    reader = pq.ParquetFile(handle, pre_buffer=False, buffer_size=BUFFER)
                except (pa.ArrowException, OSError):
                    self._refuse_packed(handle)
                    raise
            yield reader

    def _refuse_packed(self, handle: BinaryIO) -> None:
        handle.seek(0)
        compressed = forms.packed(handle.read(16), "")
        if compressed:
            raise DataError(
                f"{self._key}: a Parquet file there is compressed ({compressed}); unpack it first"
            ) from None

    @contextlib.contextmanager
    def _explained(self, file: str, fault: str) -> Iterator[None]:
        # pa.ArrowInvalid is a ValueError and pa.ArrowIOError an OSError: the order matters.
        with files.explained(self._key, file):
            try:
                yield
            except pa.ArrowException:
                raise DataError(f"{self._key}: a file there {fault}; whole Parquet files are wanted") from None
            except OSError as error:
                if error.errno is None:
                    raise DataError(f"{self._key}: a file there {fault}; whole Parquet files are wanted") from None
                raise

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        with self._explained(self._path, "is a damaged Parquet file"):
            try:
                return next(batches, None)
            except (pa.ArrowException, OSError) as error:
                # With an errno it is the disk that fails, which may be better tomorrow.
                if self._never_stop and getattr(error, "errno", None) is None:
                    return None
                raise

    def _damaged(self, schema: pa.Schema, name: str, start: int, stop: int) -> Iterator[SourceBatch]:
        """Yields rows that cannot be read as rejects, with `never_stop`."""
        for first in range(start, stop, BATCH_ROWS):
            count = min(BATCH_ROWS, stop - first)
            nothing = pa.table([pa.nulls(count, field.type) for field in schema], schema.names)
            yield self._batch((nothing, dict.fromkeys(range(count), DAMAGED)), name, first)

    def _batch(
        self, read: tuple[pa.Table, dict[int, Fault]], name: str, first: int, unread: frozenset[str] = frozenset()
    ) -> SourceBatch:
        table, faults = read
        rows = [f"{name}:{first + i}" for i in range(len(table))]
        with self._explained(self._path, "is a damaged Parquet file"):
            return self._roles.batch(table, rows, faults, unread)


def _overlap(metadata: pq.FileMetaData, piece: Piece) -> tuple[list[int], int, int]:
    """Returns the row groups that overlap a piece, the first row of the first group, and the mean bytes of a row."""
    groups: list[int] = []
    position = begin = size = rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if position < piece.stop and position + group.num_rows > piece.start:
            begin = begin if groups else position
            groups.append(index)
            size += group.total_byte_size
            rows += group.num_rows
        position += group.num_rows
    return groups, begin, size // max(1, rows)


def _look(file: str) -> str:
    """Returns what a file looks like from outside. A copy of it on another machine's disk looks different."""
    return repr(files.stamp(file))


def _file_digest(file: str) -> bytes:
    with _lock_of(file):
        return _digest_of(file, files.stamp(file))


@functools.lru_cache(maxsize=_KEPT)
def _lock_of(_: str) -> threading.Lock:
    return threading.Lock()


@functools.lru_cache(maxsize=_KEPT)
def _digest_of(file: str, _: object) -> bytes:
    """Returns the digest of a file that looks so from outside."""
    total = hashlib.sha256()
    for chunk in files.chunks(file):
        total.update(chunk)
    return total.digest()
