"""A source of one's own: a text file, a record a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pe_beam import contracts
from pe_beam.contracts.source import BATCH_ROWS, Piece, SourceBatch, SourceRequest, cut
from pe_beam.errors import DataError, RecipeError


class LinesOptions(contracts.Options):
    """What a recipe may say below `data.options`."""

    comment: str = "#"


class Lines(contracts.Source):
    """Each line is a text; lines that begin with the comment sign are none."""

    Options = LinesOptions
    takes = frozenset({"never_stop"})  # no columns, no clients; a line never swallows others, nor stops the run

    def __init__(self, path: str, key: str, comment: str) -> None:
        self._path, self._key, self._comment = path, key, comment

    @classmethod
    def open(cls, request: SourceRequest) -> Lines:
        """Reads nothing yet."""
        if request.content.payload.names != ["text"]:
            raise RecipeError("data.source: lines is for texts")
        return cls(request.path, request.key, LinesOptions.model_validate(request.options.model_dump()).comment)

    def pieces(self) -> list[Piece]:
        """Fixed row ranges of the one file."""
        return [Piece(self._path, 0, start, stop) for start, stop in cut(len(self._lines()))]

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """A batch of rows at a time."""
        lines = self._lines()
        for start in range(piece.start, piece.stop, BATCH_ROWS):
            rows = lines[start : min(start + BATCH_ROWS, piece.stop)]
            texts = [_decoded(row) for row in rows]
            faults = {row: contracts.Fault("line that is not UTF-8") for row, text in enumerate(texts) if text is None}
            payload = pa.table({"text": pa.array(texts, pa.string())})
            where = [f"{piece.file}:{row}" for row in range(start, start + len(rows))]
            yield SourceBatch(payload, [None] * len(rows), [None] * len(rows), where, faults)

    def digest(self, piece: Piece) -> str:
        """Changes with the lines, not with the path."""
        return hashlib.sha256(b"\n".join(self._lines()[piece.start : piece.stop])).hexdigest()

    def _lines(self) -> list[bytes]:
        try:
            data = Path(self._path).read_bytes()
        except OSError as error:
            raise DataError(f"{self._key}: the file cannot be read ({error.strerror})") from None
        return [line for line in data.splitlines() if line and not line.startswith(self._comment.encode())]


def _decoded(line: bytes) -> str | None:
    """Judges each line by itself: of a file that is decoded as a whole, one record would stop the run."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
