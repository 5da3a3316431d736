"""A source whose records are prepared as they are read (`data.prepare`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from pe_beam.contracts.content import Preparation
from pe_beam.contracts.source import Piece, Source, SourceBatch


class PreparedSource(Source):
    """The records of any source, prepared. Which there are, and where they are cut, is the source's own."""

    def __init__(self, source: Source, preparation: Preparation) -> None:
        self._source = source
        self._preparation = preparation

    def pieces(self) -> list[Piece]:
        """See Source."""
        return self._source.pieces()

    def digest(self, piece: Piece) -> str:
        """Of the records as they lie there."""
        return self._source.digest(piece)

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._source.refuse(seen)

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """The rows of a piece; one that cannot be prepared is a fault."""
        for batch in self._source.read(piece):
            payload, faults = self._preparation.prepared(batch.payload)
            yield replace(batch, payload=payload, faults={**faults, **batch.faults})
