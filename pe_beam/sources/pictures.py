"""Code that sources of standard picture files share: splits by name, class names, and pictures as raw pixels."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa

from pe_beam.contracts.cutting import cut_here
from pe_beam.contracts.source import (
    BATCH_BYTES,
    BATCH_ROWS,
    IMAGE_SCHEMA,
    FileCut,
    FilePart,
    Piece,
    Source,
    SourceBatch,
    SourceRequest,
    cut,
)
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.sources import files, finding
from pe_beam.sources.roles import Roles
from pe_beam.sources.sklearn_sets import encode_png


def split_of(path: str, allowed: Collection[str], key: str) -> tuple[str, str | None]:
    """Returns the path before a `#`, and the name of the split after it; None: all records are wanted.

    >>> split_of("/data/celeba#test", ["train", "test"], "data.path")
    ('/data/celeba', 'test')

    Raises:
      RecipeError: the name is not one of the allowed splits.
    """
    place, sign, name = path.rpartition("#")
    if not sign:
        return path, None
    if name not in allowed:
        known = ", ".join(f"#{one}" for one in allowed)
        raise RecipeError(f"{key}: #{name} is no split of these data; allowed: {known}, or none for all")
    return place, name


def need_images(request: SourceRequest, source: str) -> None:
    """Raises RecipeError if records are not images."""
    if request.content.payload.names != IMAGE_SCHEMA.names:
        raise RecipeError(f"data.source: {source} is for images; another source is wanted for records of this modality")


def class_name(number: int, names: Sequence[str] | None) -> str | None:
    """Returns the name of a class number, None if it has no name, or its digits if no names are given."""
    if names is None:
        return str(number)
    return names[number] if 0 <= number < len(names) else None


class RawPictures(Source):
    """Files of pictures of one size, stored as raw bytes. The number of a row gives its place in the file."""

    takes = frozenset({"never_stop"})  # a row of fixed length cannot swallow others
    kind: str
    """What the files are called in messages."""

    def __init__(self, path: str, roles: Roles) -> None:
        self._path = path
        self._roles = roles
        self._key = roles.key

    @abc.abstractmethod
    def _files(self) -> list[str]:
        """Returns the sorted files. `files.explained` handles the exceptions that it raises."""

    @abc.abstractmethod
    def _count(self, file: str) -> int:
        """Returns the number of rows in a file. Raises DataError if the file is not whole."""

    @abc.abstractmethod
    def _shape(self, file: str) -> tuple[int, ...]:
        """Returns the shape of a picture: (height, width) or (height, width, 3)."""

    @abc.abstractmethod
    def _blocks(self, piece: Piece, rows: int) -> Iterator[tuple[np.ndarray, Sequence[int] | None]]:
        """Yields uint8 (n, *shape) and n class numbers, n at most `rows`; None: there are no labels."""

    @abc.abstractmethod
    def _label(self, number: int) -> str | None:
        """Returns the class of a number; None: it has none."""

    def pieces(self) -> list[Piece]:
        """See Source."""
        return cut_here(self)

    def files(self) -> list[FilePart]:
        """See Source."""
        with files.explained(self._key, self._path):
            found = self._files()
        if not found:
            raise finding.no_files(self._path, self._key, self.kind)
        return [FilePart(file, index) for index, file in enumerate(found)]

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source."""
        rows = self._counted(part.file)
        return FileCut(part, tuple(Piece(part.file, part.file_index, a, b) for a, b in cut(rows)))

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._key}: the {self.kind} files at {self._path} hold no pictures")

    def _counted(self, file: str) -> int:
        with files.explained(self._key, file):
            return self._count(file)

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        name, first = files.below(piece.file, self._path), piece.start
        for pixels, numbers in self._read(piece):
            labels = [None] * len(pixels) if numbers is None else [self._label(number) for number in numbers]
            pngs = pa.array([encode_png(picture) for picture in pixels], pa.binary())
            columns = {self._roles.names["image"]: pngs}
            columns |= {column: pa.array(labels, pa.string()) for column in self._roles.label}
            rows = [f"{name}:{first + i}" for i in range(len(pixels))]
            first += len(pixels)
            yield self._roles.batch(pa.table(columns), rows, {})

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the shape, pixels and class numbers of the range."""
        with files.explained(self._key, piece.file):
            shape = self._shape(piece.file)
        total = hashlib.sha256(f"pe_beam {self.kind} 1\0{shape}\0".encode())
        for pixels, numbers in self._read(piece):
            total.update(pixels.tobytes())
            total.update(b"" if numbers is None else bytes(numbers))
        return total.hexdigest()

    def _read(self, piece: Piece) -> Iterator[tuple[np.ndarray, Sequence[int] | None]]:
        done = piece.start
        with files.explained(self._key, piece.file):
            size = max(1, int(np.prod(self._shape(piece.file))))
            for pixels, numbers in self._blocks(piece, max(1, min(BATCH_ROWS, BATCH_BYTES // size))):
                done += len(pixels)
                yield pixels, numbers
        if done != piece.stop:
            raise DataError(f"{self._key}: a {self.kind} file is not what it was when it was listed")
