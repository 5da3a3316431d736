"""IDX files, the format of MNIST, Fashion-MNIST, EMNIST and KMNIST: pictures in one file, labels in another."""

from __future__ import annotations

import contextlib
import functools
import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, ClassVar, cast

import numpy as np
from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.source import Piece, SourceRequest
from pe_beam.errors import DataError
from pe_beam.sources import files, finding
from pe_beam.sources.pictures import RawPictures, class_name, need_images, split_of
from pe_beam.sources.roles import Roles

_SPLITS = {"train": ("train-",), "test": ("t10k-", "test-")}
_PICTURES, _LABELS = 0x803, 0x801
_MOST_PIXELS = 64_000_000
_ENDINGS = ("idx3-ubyte",)
_GZIP = b"\x1f\x8b"


class MnistOptions(Options):
    """What labels are called."""

    names: list[str] | None = Field(None, description="what the labels 0, 1, ... mean, in order; null: the numbers")


class MnistSource(RawPictures):
    """Gray pictures of IDX files, plain or gzip. The file of labels lies beside them: `labels` and `idx1` in its name.

    If a file is there plain and as gzip, as torchvision leaves it, only the plain one is read: each record votes once.

    A folder means all its `idx3-ubyte` files, `FOLDER#train` and `FOLDER#test` those of one split. The file of pictures
    must be whole. With labels, their file must be whole too, and have as many rows. This is checked before any budget
    is spent. For the check, a gzip file is unpacked once, in bounded memory.
    """

    Options: ClassVar[type[Options]] = MnistOptions
    kind = "IDX"

    @classmethod
    def open(cls, request: SourceRequest) -> MnistSource:
        """See Source."""
        need_images(request, "mnist")
        options = MnistOptions.model_validate(request.options.model_dump())
        path, split = split_of(request.path, tuple(_SPLITS), request.key)
        return cls(path, split, Roles.asked(request), options.names)

    def __init__(self, path: str, split: str | None, roles: Roles, names: Sequence[str] | None) -> None:
        super().__init__(path, roles)
        self._split = split
        self._names = names

    def _files(self) -> list[str]:
        found = finding.find(self._path, _ENDINGS)
        found = [file for file in found if file.removesuffix(".gz") == file or file.removesuffix(".gz") not in found]
        if self._split is None:
            return found
        return [file for file in found if file.rpartition("/")[2].startswith(_SPLITS[self._split])]

    def _label(self, number: int) -> str | None:
        return class_name(number, self._names)

    def _shape(self, file: str) -> tuple[int, ...]:
        with self._opened(file) as handle:
            return self._header(handle)[1]

    def _count(self, file: str) -> int:
        with self._opened(file) as handle:
            count, shape = self._header(handle)
        self._whole(file, 16 + count * shape[0] * shape[1])
        if self._roles.label:
            labels = self._labels_of(file)
            with self._opened(labels) as handle:
                magic, others = struct.unpack(">2I", self._exactly(handle, 8))
            if magic != _LABELS:
                raise self._damage("the file of labels does not begin as one does (00 00 08 01)")
            if others != count:
                raise self._damage("pictures and labels are not equally many")
            self._whole(labels, 8 + others)
        return count

    def _header(self, handle: BinaryIO) -> tuple[int, tuple[int, int]]:
        magic, count, height, width = struct.unpack(">4I", self._exactly(handle, 16))
        if magic != _PICTURES:
            raise self._damage("it does not begin as pictures of a byte a pixel do (00 00 08 03)")
        if not 1 <= height * width <= _MOST_PIXELS:
            raise self._damage(f"its pictures have no pixels, or more than {_MOST_PIXELS:,}")
        return count, (height, width)

    def _whole(self, file: str, wanted: int) -> None:
        """Raises DataError if the content of a file, unpacked, is not `wanted` bytes long."""
        if _length(file, wanted, files.stamp(file)) != wanted:
            raise self._damage("it is damaged, cut short, or longer than its header says")

    def _labels_of(self, file: str) -> str:
        """Returns the file of labels beside a file of pictures, plain or gzip. Raises DataError if there is none."""
        folder, sign, name = file.rpartition("/")
        plain = name.removesuffix(".gz")
        own = plain.replace("images", "labels").replace("idx3", "idx1")
        for other in () if own == plain else (own, own + ".gz"):
            if files.exists(f"{folder}{sign}{other}"):
                return f"{folder}{sign}{other}"
        raise self._damage("there is no file of labels beside it (images: labels, idx3: idx1 in its name)")

    def _blocks(self, piece: Piece, rows: int) -> Iterator[tuple[np.ndarray, Sequence[int] | None]]:
        with contextlib.ExitStack() as stack:
            pictures = stack.enter_context(self._opened(piece.file))
            labels = stack.enter_context(self._opened(self._labels_of(piece.file))) if self._roles.label else None
            height, width = self._header(pictures)[1]
            pictures.seek(16 + piece.start * height * width)
            if labels is not None:
                labels.seek(8 + piece.start)
            for start in range(piece.start, piece.stop, rows):
                count = min(rows, piece.stop - start)
                pixels = np.frombuffer(self._exactly(pictures, count * height * width), np.uint8)
                numbers = None if labels is None else list(self._exactly(labels, count))
                yield pixels.reshape(count, height, width), numbers

    def _exactly(self, handle: BinaryIO, count: int) -> bytes:
        data = handle.read(count)
        if len(data) < count:
            raise self._damage("it is cut short")
        return data

    def _damage(self, what: str) -> DataError:
        return DataError(f"{self._key}: an IDX file there cannot be used: {what}; whole files as MNIST has are wanted")

    @contextlib.contextmanager
    def _opened(self, file: str) -> Iterator[BinaryIO]:
        with files.open_file(file) as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            try:
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
            except (gzip.BadGzipFile, EOFError, zlib.error):
                raise self._damage("its compression is damaged, or it is cut short") from None


@functools.lru_cache(maxsize=32)
def _length(file: str, wanted: int, stamp: object) -> int:
    """Returns the length of a file's content, unpacked, in bytes. Counts gzip up to `wanted` + 1; -1: damaged."""
    with files.open_file(file) as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        if not packed:
            return files.size(file)
        total = 0
        try:
            unpacked = gzip.GzipFile(fileobj=raw)
            while total <= wanted and (chunk := unpacked.read(min(files.CHUNK, wanted + 1 - total))):
                total += len(chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return -1
    return total
