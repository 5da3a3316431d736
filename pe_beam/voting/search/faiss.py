"""Engine `faiss`: the flat index of faiss."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np

from pe_beam.contracts.search import UNIT, Frame, Pairs, product_error
from pe_beam.voting.search.blas import BlasProposer


class FaissProposer:
    """Asks faiss's flat index for one more neighbour than needed. If the gap to it proves nothing, `blas` answers.

    faiss sums (x - y)^2, or computes |x|^2 + |y|^2 - 2 x.y. Both errors are at most g (|x'| + |y'|)^2 for K = d + 4.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        dimension = frame.vectors.shape[1]
        self._frame, self._votes = frame, votes
        self._fallback = BlasProposer(frame, votes=votes, tile=tile)
        self._error = 1.2 * product_error(dimension + 4) + 4 * UNIT
        self._index = faiss.IndexFlatIP(dimension) if frame.product else faiss.IndexFlatL2(dimension)
        self._index.add(frame.vectors)

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        if self._votes >= len(self._frame.vectors):
            return self._fallback.propose(placed, radii)
        values, columns = self._index.search(placed, self._votes + 1)
        gap = np.abs(values[:, -1].astype(np.float64) - values[:, -2])
        size = radii * self._frame.largest if self._frame.product else (radii + self._frame.largest) ** 2
        proven = gap > 2 * (self._error * size + 2 * self._frame.constant_error(radii))
        rows = np.repeat(np.flatnonzero(proven), self._votes)
        columns = columns[proven, :-1].ravel().astype(np.int64)
        rest = np.flatnonzero(~proven)
        if len(rest) == 0:
            return Pairs(rows, columns)
        more = self._fallback.propose(placed[rest], radii[rest])
        if more is None:
            return None
        return Pairs.joined(Pairs(rows, columns), replace(more, rows=rest[more.rows]))
