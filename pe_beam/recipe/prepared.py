"""A source that prepares its records while it reads them (`data.prepare`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pe_beam.contracts.content import Preparation
from pe_beam.contracts.source import Piece, Source, SourceBatch
from pe_beam.recipe.around import SourceAround


class PreparedSource(SourceAround):
    """Another source with prepared records. That source decides on records and pieces."""

    def __init__(self, source: Source, preparation: Preparation) -> None:
        super().__init__(source)
        self._preparation = preparation

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """Yields the prepared rows of a piece. A row that cannot be prepared is a fault."""
        for batch in self._source.read(piece):
            payload, faults = self._preparation.prepared(batch.payload)
            yield replace(batch, payload=payload, faults={**faults, **batch.faults})
