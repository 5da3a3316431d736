"""CIFAR-10 and CIFAR-100 in the binary version: records have a fixed length, and nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.source import Piece, SourceRequest
from pe_beam.errors import DataError
from pe_beam.sources import files, finding
from pe_beam.sources.pictures import RawPictures, class_name, need_images, split_of
from pe_beam.sources.roles import Roles

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SPLITS = {"train": ("data_batch_", "train.bin"), "test": ("test_batch", "test.bin")}
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


class CifarOptions(Options):
    """Which records there are, and what their labels are called."""

    variant: Literal["cifar-10", "cifar-100-coarse", "cifar-100-fine"] = Field(
        "cifar-10", description="how a record begins, and which of its numbers is the label"
    )
    names: list[str] | None = Field(
        None, description="what the numbers mean, in order; null: the ten of CIFAR-10, and of CIFAR-100 the numbers"
    )


class CifarSource(RawPictures):
    """Files of records: one label byte (CIFAR-100: two, coarse and fine), then 1,024 bytes each of red, green, blue.

    A folder means all its `.bin` files, `FOLDER#train` and `FOLDER#test` those of one split. With labels, a record
    whose label has no name is a reject. `batches.meta.txt` is not read.
    """

    Options: ClassVar[type[Options]] = CifarOptions
    kind = "CIFAR"

    @classmethod
    def open(cls, request: SourceRequest) -> CifarSource:
        """See Source."""
        need_images(request, "cifar")
        options = CifarOptions.model_validate(request.options.model_dump())
        path, split = split_of(request.path, tuple(_SPLITS), request.key)
        return cls(path, split, Roles.asked(request), options)

    def __init__(self, path: str, split: str | None, roles: Roles, options: CifarOptions) -> None:
        super().__init__(path, roles)
        self._split = split
        self._head = 1 if options.variant == "cifar-10" else 2
        self._place = 1 if options.variant == "cifar-100-fine" else 0
        self._names = options.names or (list(CIFAR10) if options.variant == "cifar-10" else None)

    def _files(self) -> list[str]:
        found = finding.find(self._path, (".bin",))
        if self._split is None:
            return found
        return [file for file in found if file.rpartition("/")[2].startswith(_SPLITS[self._split])]

    def _shape(self, file: str) -> tuple[int, ...]:
        return (_SIDE, _SIDE, 3)

    def _label(self, number: int) -> str | None:
        return class_name(number, self._names)

    def _count(self, file: str) -> int:
        size, record = files.size(file), self._head + _PIXELS
        if size % record:
            other = 3 - self._head
            hint = "" if size % (other + _PIXELS) else "; data.options.variant is another's"
            raise DataError(
                f"{self._key}: a file there is cut short or no CIFAR file of the binary version; whole records of "
                f"{record:,} bytes are wanted{hint}"
            )
        return size // record

    def _blocks(self, piece: Piece, rows: int) -> Iterator[tuple[np.ndarray, Sequence[int] | None]]:
        record = self._head + _PIXELS
        with files.open_file(piece.file) as handle:
            handle.seek(piece.start * record)
            for start in range(piece.start, piece.stop, rows):
                data = handle.read(min(rows, piece.stop - start) * record)
                table = np.frombuffer(data[: len(data) // record * record], np.uint8).reshape(-1, record)
                pixels = table[:, self._head :].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
                yield np.ascontiguousarray(pixels), table[:, self._place].tolist()
