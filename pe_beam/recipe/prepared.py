"""A source that prepares its records while it reads them (`data.prepare`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pe_beam.contracts.content import Preparation
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source, SourceBatch


class PreparedSource(Source):
    """Another source with prepared records. That source decides on records and pieces."""

    def __init__(self, source: Source, preparation: Preparation) -> None:
        self._source = source
        self._preparation = preparation

    def pieces(self) -> list[Piece]:
        """See Source."""
        return self._source.pieces()

    def transform(self) -> Any:
        """See Source."""
        return self._source.transform()

    def files(self) -> list[FilePart]:
        """See Source."""
        return self._source.files()

    def cut_file(self, part: FilePart) -> FileCut:
        """See Source."""
        return self._source.cut_file(part)

    def join_cuts(self, cuts: Sequence[FileCut]) -> list[Piece]:
        """See Source."""
        return self._source.join_cuts(cuts)

    def digested(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """See Source."""
        return self._source.digested(pieces)

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        self._source.check_pieces(pieces)

    def digest(self, piece: Piece) -> str:
        """Returns the digest of the unprepared records."""
        return self._source.digest(piece)

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._source.refuse(seen)

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """Yields the prepared rows of a piece. A row that cannot be prepared is a fault."""
        for batch in self._source.read(piece):
            payload, faults = self._preparation.prepared(batch.payload)
            yield replace(batch, payload=payload, faults={**faults, **batch.faults})
