"""Picture files that a table beside them names. Each row of the table is a record."""

from __future__ import annotations

import abc
import functools
import hashlib
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import BATCH_BYTES, FileCut, FilePart, Piece, Source, SourceBatch, image_table
from pe_beam.sources import files
from pe_beam.sources.folder import MAX_BYTES
from pe_beam.storage import reading

NOT_THERE = Fault("image file that is not there")
NO_NAME = Fault("file name that is missing or leads out of its folder")
NO_SPLIT = Fault("row that is in no split")
TOO_LARGE = Fault("image file of too many bytes")


@dataclass(frozen=True)
class Listed:
    """The n records that a batch of the table lists.

    Attributes:
      places: their rows in the batch. Rows of other splits are absent; rows that cannot be read are in every split.
      names: their files, relative to the folder that the source names, or the fault why there is none.
      labels: as text, None where there is none.
      clients: as text, None where there is none.
    """

    places: Sequence[int]
    names: Sequence[str | Fault]
    labels: Sequence[str | None]
    clients: Sequence[str | None]


class ListedSource(Source):
    """Reads a table with the source of its format, and the files that it names. A file that no row names is ignored.

    A row is a reject if its file is not there or is too large, or if its name leads out of the folder. A file that may
    not be opened stops the run.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    @abc.abstractmethod
    def _table(self, piece: Piece) -> Source:
        """Returns the source of the table from which a piece is cut."""

    @abc.abstractmethod
    def _listed(self, batch: SourceBatch) -> Listed:
        """Returns the records that a batch of the table lists."""

    @abc.abstractmethod
    def _folder(self, piece: Piece) -> str:
        """Returns the folder of a piece's files."""

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source. A file's bytes are passed on as they are; the embedder decodes them."""
        folder = self._folder(piece)
        for batch in self._table(piece).read(piece):
            listed = self._listed(batch)
            images: list[bytes | Fault] = []
            size = first = 0
            names = [batch.faults.get(row) or listed.names[at] for at, row in enumerate(listed.places)]
            read = files.ahead(functools.partial(self._image, folder), names, folder)
            for at, image in enumerate(read):
                if images and size + _size(image) > BATCH_BYTES:
                    yield _batch(batch, listed, first, images)
                    images, size, first = [], 0, at
                images.append(image)
                size += _size(image)
            if images:
                yield _batch(batch, listed, first, images)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the table's digest, and over name, SHA-256, label and client of each listed file."""
        table, folder = self._table(piece), self._folder(piece)
        total = hashlib.sha256(b"pe_beam listed 1\0" + table.digest(piece).encode())
        for batch in table.read(piece):
            listed = self._listed(batch)
            names = [batch.faults.get(row) or listed.names[at] for at, row in enumerate(listed.places)]
            read = files.ahead(functools.partial(self._file_digest, folder), names, folder)
            for at, inner in enumerate(read):
                raw = repr(names[at]).encode()
                label, client = (repr(values[at]).encode() for values in (listed.labels, listed.clients))
                total.update(b"".join(struct.pack(">Q", len(part)) + part for part in (raw, inner, label, client)))
        return total.hexdigest()

    def files(self) -> list[FilePart]:
        """See Source."""
        return self._any_table().files()

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source."""
        return self._any_table().cut_file(part)

    def join_cuts(self, cuts: Sequence[FileCut]) -> list[Piece]:
        """See Source."""
        return self._any_table().join_cuts(cuts)

    def digested(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """See Source."""
        return self._table(pieces[0]).digested(pieces) if pieces else pieces

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        self._any_table().check_pieces(pieces)

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._any_table().refuse(seen)

    @abc.abstractmethod
    def _any_table(self) -> Source:
        """Returns a source of the table, for `refuse`."""

    def _image(self, folder: str, name: str | Fault) -> bytes | Fault:
        if isinstance(name, Fault):
            return name
        if not is_inside(name):
            return NO_NAME
        path = f"{folder}/{name}"
        with files.explained(self._key, path):
            try:
                image = files.read_file(path, MAX_BYTES + 1) if _is_file(path) else None
            except FileNotFoundError:
                image = None
        if image is None:
            return NOT_THERE
        return image if len(image) <= MAX_BYTES else TOO_LARGE

    def _file_digest(self, folder: str, name: str | Fault) -> bytes:
        """Returns the SHA-256 of a file; empty for a file that is not there."""
        if isinstance(name, Fault) or not is_inside(name):
            return b""
        path = f"{folder}/{name}"
        inner = hashlib.sha256()
        with files.explained(self._key, path):
            if not _is_file(path):
                return b""
            try:
                for chunk in files.chunks(path):
                    inner.update(chunk)
            except FileNotFoundError:
                return b""
        return inner.digest()


def is_inside(name: str) -> bool:
    """Returns whether a file's name stays inside the folder to which it is relative.

    >>> [is_inside(name) for name in ("a/1.png", "../1.png", "/etc/1.png", "gs://x/1.png", "")]
    [True, False, False, False, False]
    """
    parts = name.split("/")
    return not ("" in parts or ".." in parts or "\0" in name)


def _is_file(path: str) -> bool:
    """Returns whether there may be a file at a path. Locally, a folder or a pipe is not a file."""
    if reading.is_object(path):
        return True  # to read it says so too, and a request less is made
    try:
        return Path(path).is_file() if files.is_local(path) else files.exists(path)
    except OSError:  # a name that is too long
        return False


def _size(image: bytes | Fault) -> int:
    return len(image) if isinstance(image, bytes) else 0


def _batch(batch: SourceBatch, listed: Listed, first: int, images: list[bytes | Fault]) -> SourceBatch:
    places = slice(first, first + len(images))
    return SourceBatch(
        image_table([image if isinstance(image, bytes) else None for image in images]),
        list(listed.labels[places]),
        list(listed.clients[places]),
        [batch.rows[row] for row in listed.places[places]],
        {at: image for at, image in enumerate(images) if isinstance(image, Fault)},
        batch.seen,
    )
