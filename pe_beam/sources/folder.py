"""A folder of image files. With labels, the folders directly in it are the labels."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from pe_beam import names
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import (
    BATCH_BYTES,
    BATCH_ROWS,
    IMAGE_SCHEMA,
    Piece,
    Source,
    SourceBatch,
    SourceRequest,
    cut,
    image_table,
)
from pe_beam.errors import DataError, EmptyInputError, MissingDataError, RecipeError
from pe_beam.sources import files, finding
from pe_beam.sources.members import Members, members_of

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".jp2")
"""Usual endings, for messages. A picture is recognised by its content, whatever its ending is."""
_BESIDE = (
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".toml", ".ini"),
    *(".html", ".htm", ".log", ".pdf", ".doc", ".docx", ".rtf", ".xls", ".xlsx", ".py", ".ipynb", ".sh", ".m"),
    *(".parquet", ".arrow", ".npy", ".npz", ".mat", ".h5", ".pkl", ".pt", ".db", ".sqlite", ".md5", ".sha1", ".sha256"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".wav", ".flac", ".ogg", ".url", ".lnk"),
)
_NAMES = (
    *(
        "thumbs.db",
        "desktop.ini",
        "icon\r",
        "readme",
        "license",
        "licence",
        "copying",
        "notice",
        "changelog",
        "authors",
    ),
    *("citation", "manifest", "checksums", "md5sums", "sha256sums"),
)
MAX_BYTES = 256 << 20
"""A larger file is rejected without being read whole."""


class FolderSource(Source):
    """Image files at any depth below a folder, sorted by the bytes of their relative paths.

    A file whose name shows that it is not a picture is skipped (`is_beside`). Every other file is a record, whatever
    its ending: if its content is not a picture, it is rejected. With labels, a file in no class folder has the label
    None. A file that cannot be opened stops a run, since the cause may be temporary. With `never_stop` it is a reject.
    """

    takes = frozenset({"never_stop", "members"})

    @classmethod
    def open(cls, request: SourceRequest) -> FolderSource:
        """See Source. Raises RecipeError if records are not images."""
        if request.content.payload.names != IMAGE_SCHEMA.names:
            raise RecipeError("data.source: folder is for images; a source with columns is wanted here")
        return cls(
            request.path,
            labelled=request.labelled,
            key=request.key,
            labels=request.labels,
            never_stop=request.never_stop,
            members=members_of(request),
        )

    def __init__(
        self,
        path: str,
        *,
        labelled: bool,
        key: str = "data.path",
        labels: Sequence[str] | None = None,
        never_stop: bool = False,
        members: Members | None = None,
    ) -> None:
        self._never_stop, self._members = never_stop, members
        self._known = {names.label_key(label): label for label in labels or ()}
        self._root = path.rstrip("/") or "/"
        self._labelled = labelled
        self._key = key

    def pieces(self) -> list[Piece]:
        """See Source."""
        found = [name for name in self._names() if not is_beside(name)]
        if not found:
            wanted = f"wanted: {' '.join(ENDINGS)} or others"
            raise EmptyInputError(f"{self._key}: no image files below {self._root}; {wanted}")
        if self._labelled and not self._never_stop and not self._members and not any("/" in name for name in found):
            raise DataError(
                f"{self._key}: data.labels are declared, and no picture lies in a folder named by its label; labels "
                "in a table beside the pictures want data.source: imagefolder, data.path: FOLDER/labels.csv"
            )
        return [Piece(self._root, 0, a, b, tuple(found[a:b])) for a, b in cut(len(found))]

    def listed(self) -> list[tuple[str, int]]:
        """See Source."""
        found = [self._full(name) for name in self._names() if not is_beside(name)]
        return [(file, -1) for file in found if self._members is not None or finding.is_there(file)]

    def _names(self) -> list[str]:
        """Returns the files relative to the folder: all below it, or the members of a window."""
        if self._members is not None:
            return [finding.inside(file, self._root) for file, _ in self._members.listed()]
        with files.explained(self._key, self._root):
            if files.is_local(self._root) and not Path(self._root).is_dir():
                raise MissingDataError(f"{self._key}: {self._root} is not there or no folder; a folder is wanted")
            return finding.list_below(self._root)

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source. A file's bytes are passed on as they are; the embedder decodes them."""
        images: list[bytes | None] = []
        size = first = 0
        for position, image in enumerate(files.ahead(self._image, piece.files, self._root)):
            if images and size + len(image or b"") > BATCH_BYTES:
                yield self._batch(piece, first, images)
                images, size, first = [], 0, position
            images.append(image)
            size += len(image or b"")
            if len(images) == BATCH_ROWS:
                yield self._batch(piece, first, images)
                images, size, first = [], 0, position + 1
        if images:
            yield self._batch(piece, first, images)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over (length of the name, name, length, SHA-256 of the bytes) of each file."""
        if self._members is not None:
            for name in piece.files:
                self._members.check(self._full(name))
        total = hashlib.sha256(b"pe_beam folder 1\0")
        for name, (length, inner) in zip(piece.files, files.ahead(self._digest, piece.files, self._root), strict=True):
            raw = files.sort_key(name)
            total.update(struct.pack(">Q", len(raw)) + raw + struct.pack(">Q", length) + inner)
        return total.hexdigest()

    def _digest(self, name: str) -> tuple[int, bytes]:
        """Returns the length in bytes and the SHA-256 of a file, of as much of it as could be read."""
        inner, length = hashlib.sha256(), 0
        with self._reading(name):
            for chunk in files.chunks(self._full(name)):
                inner.update(chunk)
                length += len(chunk)
        return length, inner.digest()

    def _image(self, name: str) -> bytes | None:
        """Returns the bytes of a file; None: the file is a reject."""
        image = None
        with self._reading(name):
            image = files.read_file(self._full(name), MAX_BYTES + 1)
        return image if image is not None and len(image) <= MAX_BYTES else None

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Wraps the code that reads one file. With `never_stop`, DataError ends that code silently."""
        try:
            with files.explained(self._key, self._root):
                yield
        except DataError as found:
            if self._never_stop:
                return
            error = found
            if not finding.is_there(self._full(name)):
                error = DataError(f"{self._key}: a link there leads to no file; put its file there, or take it away")
            error.file = files.printable(name)
            raise error from None

    def _full(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _batch(self, piece: Piece, first: int, images: list[bytes | None]) -> SourceBatch:
        shown = [files.printable(name) for name in piece.files[first : first + len(images)]]
        labels = [self._label(name) if self._labelled and "/" in name else None for name in shown]
        rows = [f"{name}:0" for name in shown]
        cannot = "image file of too many bytes" + (", or one that cannot be read" if self._never_stop else "")
        faults = {row: Fault(cannot) for row, image in enumerate(images) if image is None}
        return SourceBatch(image_table(images), labels, [None] * len(images), rows, faults)

    def _label(self, name: str) -> str:
        folder = name.split("/", 1)[0]
        return self._known.get(names.label_key(folder), folder)


def is_beside(name: str) -> bool:
    """Returns whether a name shows that a file is not a picture: text, table, document, sound or video, but no archive.

    >>> is_beside("cat/notes.TXT"), is_beside("cat/1.jfif"), is_beside("cat/1"), is_beside("cat/1.png.gz")
    (True, False, False, False)
    """
    last = name.rpartition("/")[2].lower()
    return last in _NAMES or last.endswith(_BESIDE)
