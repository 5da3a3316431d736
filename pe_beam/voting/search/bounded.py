"""What engines share that bound all scores cheaply first, and compute whole what may win by that.

What the cheap bound leaves is multiplied out in float32 (A and B of `contracts.search`, K = d + 2), and what may win
then is proposed. A candidate that sets the floor stays: its upper bound is at least its lower bound - 2C. Queries that
the cheap bound leaves too many candidates are answered by `blas`.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import faiss
import numpy as np

from pe_beam.contracts.search import Frame, Pairs, bounds
from pe_beam.voting.search.blas import BlasProposer

MOST_PAIRS = 1 << 21
"""Pairs that may win by the first bound; if there are more, the block is halved."""


class BoundedProposer:
    """A proposer that bounds all scores by `_bounded`. Arguments as in `SearchEngine`.

    Attributes:
      pays: whether the cheap bound is used at all; if not, `blas` answers.
    """

    one_thread = True
    """The scan is no BLAS, so one block would leave cores idle."""
    pays = False

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        self._frame, self._votes, self._tile = frame, votes, tile
        self._half = 0.0 if frame.product else 0.5
        self._a, self._b = bounds(frame.vectors.shape[1] + 2, product=frame.product)
        self._plain: BlasProposer | None = None
        self._lock = threading.Lock()
        self._served = self._vain = 0

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        if not self.pays or self._vain > self._served // 2 + 4096:
            return self._blas().propose(placed, radii)
        crowded, pairs = self._bounded(np.ascontiguousarray(placed), radii)
        self._served, self._vain = (
            self._served + len(placed),
            self._vain + int(crowded.sum()),
        )  # only time depends on it
        if pairs is None or not crowded.any():
            return pairs
        rest = np.flatnonzero(crowded)
        more = self._blas().propose(placed[rest], radii[rest])
        if more is None:
            return None
        return Pairs.joined(pairs, replace(more, rows=rest[more.rows]))

    def _bounded(self, placed: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, Pairs | None]:
        """Returns bool (n,), True where the bound leaves too many candidates, and proposals for the other queries."""
        raise NotImplementedError

    def _blas(self) -> BlasProposer:
        """Returns the engine `blas`, made when it is needed: it holds the candidates once more."""
        with self._lock:
            if self._plain is None:
                self._plain = BlasProposer(self._frame, votes=self._votes, tile=self._tile)
            return self._plain

    def _narrow(
        self, rows: np.ndarray, columns: np.ndarray, placed: np.ndarray, radii: np.ndarray, margin: np.ndarray
    ) -> Pairs:
        """Returns the pairs that may win by their whole products, by row. What sets the floor is among the given."""
        if len(rows) == 0:
            return Pairs(rows, columns)
        order = np.argsort(rows, kind="stable")
        rows, columns = rows[order], columns[order]
        value, error = self._whole(rows, columns, placed, radii)
        lower = value - error
        new = np.append(True, rows[1:] != rows[:-1])
        starts, which = np.flatnonzero(new), np.cumsum(new) - 1
        mine = rows[starts]
        if self._votes == 1:
            low = np.maximum.reduceat(lower, starts)
        else:
            low = lower[np.lexsort((-lower, rows))][starts + self._votes - 1]
        floor = (low - margin[mine])[which]
        return Pairs(rows, columns, lower - margin[rows], value + error).part(value + error >= floor)

    def _whole(
        self, rows: np.ndarray, columns: np.ndarray, placed: np.ndarray, radii: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns s of each pair by a float32 product, and the bound on its error without C: float64 (p,) each."""
        products = np.empty(len(rows), dtype=np.float32)
        vectors = self._frame.vectors
        rows, columns = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(columns, np.int64)
        pointer = faiss.swig_ptr
        faiss.pairwise_indexed_inner_product(  # type: ignore[attr-defined]
            vectors.shape[1],
            len(rows),
            pointer(placed),
            pointer(rows),
            pointer(vectors),
            pointer(columns),
            pointer(products),
        )
        norms = self._frame.norms[columns]
        return products - self._half * norms**2, (self._a * radii[rows] + self._b * norms) * norms
