"""A folder of image files; with labels, the folders directly in it are the labels."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

from pe_beam.errors import DataError
from pe_beam.modalities.base import Fault
from pe_beam.sources import files
from pe_beam.sources.base import BATCH_BYTES, BATCH_ROWS, Piece, Source, SourceBatch, cut, image_table

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".jp2")
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".dcm", ".psd", ".svg", ".eps", ".dng", ".cr2", ".nef", ".exr")
"""Pictures too, but none that is read here: they count, and are rejected, lest a run quietly leaves them out."""
MAX_BYTES = 256 << 20
"""A larger file is rejected without being read whole."""


class FolderSource(Source):
    """Image files at any depth below a folder, sorted by the bytes of their relative paths.

    Hidden files and folders and what has no ending of a picture are skipped. With labels, a file that lies in no
    class folder has the label None.
    """

    def __init__(self, path: str, *, labelled: bool, key: str = "data.path") -> None:
        self._root = path.rstrip("/") or "/"
        self._labelled = labelled
        self._key = key

    def pieces(self) -> list[Piece]:
        """See Source."""
        with files.explained(self._key, self._root):
            if files.is_local(self._root) and not Path(self._root).is_dir():
                raise DataError(f"{self._key}: {self._root} is not there or no folder; a folder is wanted")
            listed = files.list_below(self._root)
        names = [name for name in listed if name.lower().endswith(ENDINGS + UNREAD)]
        if not names:
            raise DataError(f"{self._key}: no image files below {self._root}; wanted: {' '.join(ENDINGS)} (any case)")
        return [Piece(self._root, 0, a, b, tuple(names[a:b])) for a, b in cut(len(names))]

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source. A file's bytes are handed on as they are; decoding is the embedder's."""
        images: list[bytes | None] = []
        size = first = 0
        for position, name in enumerate(piece.files):
            with files.explained(self._key, self._root), files.open_file(self._full(name)) as handle:
                image = handle.read(MAX_BYTES + 1)
            if images and size + len(image) > BATCH_BYTES:
                yield self._batch(piece, first, images)
                images, size, first = [], 0, position
            images.append(image if len(image) <= MAX_BYTES else None)
            size += len(image)
            if len(images) == BATCH_ROWS:
                yield self._batch(piece, first, images)
                images, size, first = [], 0, position + 1
        if images:
            yield self._batch(piece, first, images)

    def digest(self, piece: Piece) -> str:
        """SHA-256 over (name's length, name, length, SHA-256 of the bytes) of each file."""
        total = hashlib.sha256(b"pe_beam folder 1\0")
        for name in piece.files:
            inner, length = hashlib.sha256(), 0
            with files.explained(self._key, self._root):
                for chunk in files.chunks(self._full(name)):
                    inner.update(chunk)
                    length += len(chunk)
            raw = files.sort_key(name)
            total.update(struct.pack(">Q", len(raw)) + raw + struct.pack(">Q", length) + inner.digest())
        return total.hexdigest()

    def _full(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _batch(self, piece: Piece, first: int, images: list[bytes | None]) -> SourceBatch:
        names = [files.printable(name) for name in piece.files[first : first + len(images)]]
        labels = [name.split("/", 1)[0] if self._labelled and "/" in name else None for name in names]
        rows = [f"{name}:0" for name in names]
        faults = {row: Fault("image file of too many bytes") for row, image in enumerate(images) if image is None}
        return SourceBatch(image_table(images), labels, [None] * len(images), rows, faults)
