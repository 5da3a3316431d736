"""Reads TFRecord files of `tf.train.Example` without TensorFlow, and verifies their checksums."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, ClassVar

import pyarrow as pa
from pydantic import Field

from pe_beam import names as spelling
from pe_beam.contracts import source as base
from pe_beam.contracts.cutting import cut_here
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.sources import files, finding, forms
from pe_beam.sources.crc32c import masked
from pe_beam.sources.example import ExampleError, Value, features
from pe_beam.sources.folder import MAX_BYTES
from pe_beam.sources.pictures import class_name, need_images
from pe_beam.sources.roles import Roles
from pe_beam.sources.spans import cut_spans, span_digest

_ENDINGS = (".tfrecord", ".tfrecords", ".tfrec")
_HEAD = 12
_TAIL = 4
CHECKSUM = Fault("record whose checksum is another's")
NO_EXAMPLE = Fault("record that is no tf.train.Example")
TOO_LONG = Fault(f"record of more than {MAX_BYTES >> 20} MB")
NO_PICTURE = Fault("record without a picture")
SEVERAL = Fault("feature of several values where one is wanted")
NO_TEXT = Fault("feature that is neither text nor a whole number")


class TfrecordOptions(Options):
    """What labels are called."""

    names: list[str] | None = Field(None, description="what labels that are numbers mean, in order; null: the numbers")


@dataclass(frozen=True)
class _Frame:
    """A record's place in its file: the byte at which its frame begins, and the size of its content in bytes."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + _HEAD + self.size + _TAIL


class TfrecordSource(Source):
    """TFRecord files (`.tfrecord`, `.tfrecords`, `.tfrec`, others by a glob), sorted by the bytes of their paths.

    The picture is the feature `image/encoded`, the label `image/class/label`, the client `client`. `data.columns` may
    name other features. A record whose content does not match its checksum is a reject: the length of a record has a
    separate checksum, so the next record can be found. If the checksum of a length does not match, or if a file is cut
    short, the run stops, because the records behind cannot be found.
    """

    Options: ClassVar[type[Options]] = TfrecordOptions
    takes = frozenset({"columns", "client"})  # not never_stop: behind a damaged length no record can be found

    @classmethod
    def open(cls, request: SourceRequest) -> TfrecordSource:
        """See Source."""
        need_images(request, "tfrecord")
        options = TfrecordOptions.model_validate(request.options.model_dump())
        columns = {"image": "image/encoded", "label": "image/class/label", **request.columns}
        roles = Roles.asked(replace(request, columns=columns))
        return cls(request.path, roles, options)

    def __init__(self, path: str, roles: Roles, options: TfrecordOptions) -> None:
        self._path = path
        self._roles = roles
        self._key = roles.key
        self._names = options.names
        self._picture = roles.names["image"]
        self._texts = [column for column in roles.columns() if column != self._picture]

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source."""
        with files.explained(self._key, self._path):
            found = finding.find_sized(self._path, _ENDINGS)
        if not found:
            raise finding.no_files(self._path, self._key, "TFRecord")
        return [FilePart(file, index, size=size) for index, (file, size) in enumerate(found)]

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source. Reads only the lengths of records, from the first to the last."""
        return FileCut(part, tuple(self._cut(part)))

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._key}: the TFRecord files at {self._path} hold no records; one is wanted")

    def _cut(self, part: FilePart) -> Iterator[Piece]:
        with files.explained(self._key, part.file), files.open_file(part.file, part.size) as handle:
            compressed = forms.packed(handle.read(16), "")
            if compressed:
                raise DataError(f"{self._key}: a TFRecord file there is compressed ({compressed}); unpack it first")
            frames = self._frames(handle, 0, part.size)
            yield from cut_spans(((frame.start, frame.stop) for frame in frames), part.file, part.file_index)

    def _frames(self, handle: BinaryIO, start: int, stop: int) -> Iterator[_Frame]:
        while start < stop:
            handle.seek(start)
            head = handle.read(_HEAD)
            if len(head) < _HEAD:
                raise self._damage("it is cut short")
            size, checksum = struct.unpack("<QI", head)
            if masked(head[:8]) != checksum:
                raise self._damage("it is no TFRecord file, or a record's length is damaged")
            frame = _Frame(start, size)
            if frame.stop > stop:
                raise self._damage("it is cut short")
            yield frame
            start = frame.stop

    def _damage(self, what: str) -> DataError:
        return DataError(f"{self._key}: a TFRecord file there cannot be read: {what}; whole files are wanted")

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name, first, size = files.below(piece.file, self._path), piece.start, 0
        held: list[dict[str, Value] | Fault] = []
        with files.explained(self._key, piece.file), files.open_file(piece.file) as handle:
            for frame in self._frames(handle, piece.offset, piece.end):
                if held and (size + frame.size > base.BATCH_BYTES or len(held) == base.BATCH_ROWS):
                    yield self._batch(held, name, first)
                    first, size, held = first + len(held), 0, []
                held.append(self._record(handle, frame))
                size += 0 if isinstance(held[-1], Fault) else frame.size
        if first + len(held) != piece.stop:
            raise self._damage("it is not what it was when it was listed")
        if held:
            yield self._batch(held, name, first)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the bytes of the range."""
        with files.explained(self._key, piece.file):
            found = span_digest(piece, "tfrecord")
        if found is None:
            raise self._damage("it is not what it was when it was listed")
        return found

    def _record(self, handle: BinaryIO, frame: _Frame) -> dict[str, Value] | Fault:
        """Returns the wanted features of a record, or the fault why it has none."""
        if frame.size > MAX_BYTES:
            return TOO_LONG
        handle.seek(frame.start + _HEAD)
        data = handle.read(frame.size)
        tail = handle.read(_TAIL)
        if len(tail) < _TAIL:
            raise self._damage("it is cut short")
        if masked(data) != struct.unpack("<I", tail)[0]:
            return CHECKSUM
        with contextlib.suppress(ExampleError):
            every = features(data)
            return {column: every.get(column) for column in (self._picture, *self._texts)}
        return NO_EXAMPLE

    def _batch(self, held: list[dict[str, Value] | Fault], name: str, first: int) -> SourceBatch:
        faults: dict[int, Fault] = {}
        columns: dict[str, list[bytes | str | None]] = {column: [] for column in (self._picture, *self._texts)}
        for row, record in enumerate(held):
            for column, values in columns.items():
                found: bytes | str | Fault | None = record if isinstance(record, Fault) else self._one(record, column)
                if isinstance(found, Fault):
                    faults.setdefault(row, found)
                values.append(None if isinstance(found, Fault) else found)
        kinds = {column: pa.binary() if column == self._picture else pa.string() for column in columns}
        table = pa.table({column: pa.array(values, kinds[column]) for column, values in columns.items()})
        return self._roles.batch(table, [f"{name}:{first + i}" for i in range(len(held))], faults)

    def _one(self, record: dict[str, Value], column: str) -> bytes | str | Fault | None:
        """Returns a picture's bytes, the text of another feature (None: it has no value), or a fault."""
        values = record[column]
        if column == self._picture:
            if not values or not isinstance(values[0], bytes):
                return NO_PICTURE
            return values[0] if len(values) == 1 else SEVERAL
        if not values:
            return None
        if len(values) > 1:
            return SEVERAL
        text = _text(values[0])
        if isinstance(text, Fault) or column not in self._roles.label or self._names is None:
            return text
        digits = spelling.digits(text)
        return text if digits is None else class_name(int(digits), self._names)


def _text(value: bytes | int) -> str | Fault:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        return NO_TEXT
