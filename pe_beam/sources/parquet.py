"""Parquet files with a column of encoded images."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.errors import DataError
from pe_beam.modalities.base import Fault
from pe_beam.sources import files
from pe_beam.sources.base import BATCH_BYTES, BATCH_ROWS, IMAGE_SCHEMA, Piece, Source, SourceBatch, cut

ROLES = ("image", "label", "client")
BUFFER = 4 << 20
WANTED = {
    "image": "binary, or a struct with a field bytes of binary, as Hugging Face writes",
    "label": "string or integer",
    "client": "string or integer",
}

_digests: dict[tuple[str, int, float, int], bytes] = {}
_locks: dict[str, threading.Lock] = {}


class ParquetSource(Source):
    """Rows of Parquet files, sorted by the bytes of their paths.

    Only the columns asked for and the row groups that overlap a piece are read, a batch at a time. Row groups
    of far more than `SHARD_ROWS` rows cost: each piece decodes them up to its own end.
    """

    def __init__(
        self, path: str, columns: Mapping[str, str], *, labelled: bool, client: bool, key: str = "data.path"
    ) -> None:
        self._path = path
        wanted = {"image": True, "label": labelled, "client": client}
        self._columns = {role: columns[role] for role in ROLES if wanted[role]}
        self._key = key

    def pieces(self) -> list[Piece]:
        """See Source."""
        with files.explained(self._key, self._path):
            found = self._files()
        if not found:
            raise DataError(f"{self._key}: no Parquet files at {self._path}; a file, a folder or a glob is wanted")
        cuts: list[Piece] = []
        for index, file in enumerate(found):
            with self._open(file) as reader:
                self._check(reader.schema_arrow)
                rows = reader.metadata.num_rows
            cuts += [Piece(file, index, a, b) for a, b in cut(rows)]
        if not cuts:
            raise DataError(f"{self._key}: the Parquet files at {self._path} have no rows; at least one is wanted")
        return cuts

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name = files.printable(piece.file.removeprefix(self._path.rstrip("/") + "/"))
        with self._open(piece.file) as reader:
            self._check(reader.schema_arrow)
            groups, position, mean = _overlap(reader.metadata, piece)
            size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, mean)))
            done = piece.start
            if groups:
                batches = reader.iter_batches(size, groups, list(self._columns.values()))
                while done < piece.stop and (batch := self._next(batches)) is not None:
                    low, high = max(piece.start - position, 0), min(piece.stop - position, len(batch))
                    position += len(batch)
                    if low < high:
                        yield self._batch(batch.slice(low, high - low), name, done)
                        done += high - low
            if done != piece.stop:
                raise DataError(f"{self._key}: a Parquet file has fewer rows than when it was listed")

    def digest(self, piece: Piece) -> str:
        """SHA-256 over the digest of the whole file, taken once a process, and the range."""
        with files.explained(self._key, piece.file):
            whole = _file_digest(piece.file)
        return hashlib.sha256(b"pe_beam parquet 1\0" + whole + struct.pack(">2Q", piece.start, piece.stop)).hexdigest()

    def _files(self) -> list[str]:
        path = self._path.rstrip("/") or "/"
        if files.is_local(path):
            if Path(path).is_file():
                return [path]
            below = files.list_below(path) if Path(path).is_dir() else None
        elif files.has_magic(path):
            below = None
        elif not self._path.endswith("/") and files.exists(path):
            return [path]
        else:
            below = files.list_below(path)
        if below is None:
            return files.match(path) if files.has_magic(path) else []
        return [f"{path.rstrip('/')}/{name}" for name in below if name.lower().endswith(".parquet")]

    @contextlib.contextmanager
    def _open(self, file: str) -> Iterator[pq.ParquetFile]:
        """Opens a file; what goes wrong at the footer is explained, what goes wrong inside is not."""
        with contextlib.ExitStack() as stack:
            with self._explained(file, "is no Parquet file, or a truncated one"):
                handle = stack.enter_context(contextlib.closing(files.open_file(file)))
                reader = pq.ParquetFile(handle, pre_buffer=False, buffer_size=BUFFER)
            yield reader

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
            return next(batches, None)

    def _check(self, schema: pa.Schema) -> None:
        for role, column in self._columns.items():
            where = schema.get_all_field_indices(column)
            key = f"data.columns.{role}"
            if len(where) != 1:
                fault = "no column of that name" if not where else "more than one column of that name"
                raise DataError(f"{key}: {column!r}: {fault} in a file of {self._key}; wanted: {WANTED[role]}")
            kind = schema.field(where[0]).type
            if not (_is_image(kind) if role == "image" else _is_name(kind)):
                raise DataError(
                    f"{key}: {column!r}: the column is of a wrong type in a file of {self._key}; wanted: {WANTED[role]}"
                )

    def _batch(self, batch: pa.RecordBatch, name: str, first: int) -> SourceBatch:
        with self._explained(self._path, "is a damaged Parquet file"):
            image = batch.column(self._columns["image"])
            if pa.types.is_struct(image.type):
                image = image.flatten()[image.type.get_field_index("bytes")]
            image = image.cast(pa.binary())
            faults = {i: Fault("missing image") for i, ok in enumerate(image.is_valid().to_pylist()) if not ok}
            payload = pa.table([image], schema=IMAGE_SCHEMA)
            labels, clients = self._names(batch, "label"), self._names(batch, "client")
        return SourceBatch(payload, labels, clients, [f"{name}:{first + i}" for i in range(len(batch))], faults)

    def _names(self, batch: pa.RecordBatch, role: str) -> list[str | None]:
        if role not in self._columns:
            return [None] * len(batch)
        column = batch.column(self._columns[role])
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return [None if value is None else str(value) for value in _text(column)]


def _text(column: pa.Array) -> list[str | int | None]:
    try:
        values: list[str | int | None] = column.to_pylist()
    except UnicodeDecodeError:  # Parquet does not check that a string is UTF-8
        raw = column.cast(pa.large_binary()).to_pylist()
        values = [None if value is None else value.decode("utf-8", "backslashreplace") for value in raw]
    return values


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        where = kind.get_all_field_indices("bytes")
        return len(where) == 1 and _is_binary(kind.field(where[0]).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_name(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _overlap(metadata: pq.FileMetaData, piece: Piece) -> tuple[list[int], int, int]:
    """Row groups that overlap a piece, the row at which the first begins, the mean bytes of a row in them."""
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


def _file_digest(file: str) -> bytes:
    key = files.stamp(file)
    with _locks.setdefault(file, threading.Lock()):
        if key not in _digests:
            total = hashlib.sha256()
            for chunk in files.chunks(file):
                total.update(chunk)
            _digests[key] = total.digest()
        return _digests[key]
