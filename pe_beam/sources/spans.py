"""Cuts a file into pieces by the byte ranges of its records, and digests a piece."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from pe_beam.contracts import source as base
from pe_beam.contracts.source import Piece
from pe_beam.sources import files


def cut_spans(spans: Iterable[tuple[int, int]], file: str, index: int) -> Iterator[Piece]:
    """Yields pieces of a file from the byte range (start, stop) of each record, in ascending order.

    Bytes between two pieces belong to neither.
    """
    rows = begin = end = 0
    for start, stop in spans:
        begin = start if rows % base.SHARD_ROWS == 0 else begin
        rows, end = rows + 1, stop
        if rows % base.SHARD_ROWS == 0:
            yield Piece(file, index, rows - base.SHARD_ROWS, rows, offset=begin, end=end)
    if rows % base.SHARD_ROWS:
        yield Piece(file, index, rows - rows % base.SHARD_ROWS, rows, offset=begin, end=end)


def span_digest(piece: Piece, kind: str) -> str | None:
    """Returns SHA-256 (hex) over the bytes of a piece; None: the file is shorter than when it was listed."""
    total, left = hashlib.sha256(f"pe_beam {kind} 1\0".encode()), piece.end - piece.offset
    with files.open_file(piece.file) as handle:
        handle.seek(piece.offset)
        while left and (chunk := handle.read(min(left, files.CHUNK))):
            total.update(chunk)
            left -= len(chunk)
    return None if left else total.hexdigest()
