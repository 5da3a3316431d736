"""The base of sources that change what another one yields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pe_beam.contracts.source import FileCut, FilePart, Piece, Source


class SourceAround(Source):
    """Another source, piece by piece. Subclasses change its batches in `read`.

    Args:
      source: the other source. It decides on pieces, digests and refusals.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def pieces(self) -> list[Piece]:
        """See Source."""
        return self._source.pieces()

    def transform(self, opened: Callable[[], Source]) -> Any:
        """See Source."""
        return self._source.transform(_Within(opened))

    def files(self) -> list[FilePart]:
        """See Source."""
        return self._source.files()

    def listed(self) -> list[tuple[str, int]]:
        """See Source."""
        return self._source.listed()

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
        """See Source. It is the digest of what the other source reads, whatever subclasses make of it."""
        return self._source.digest(piece)

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._source.refuse(seen)


@dataclass(frozen=True)
class _Within:
    """Opens the other source of a `SourceAround`."""

    opened: Callable[[], Source]

    def __call__(self) -> Source:
        found = self.opened()
        assert isinstance(found, SourceAround)
        return found._source
