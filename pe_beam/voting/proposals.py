"""Fast engines: float32 products propose every candidate that may be nearest, within a proven error bound.

An engine is a `Proposer`; `decide` has the last word, so engines differ in speed and never in a vote.

The bound. Write u = 2^-24, c for the centre, x' = fl(x - c), y' = fl(y - c), and g = Ku / (1 - Ku) for a sum of
K products. Exact ranking value: s = (|x'|^2 - D) / 2 where D is rule 8's squared distance of x and y; the larger
s, the nearer. (Inner product: x' = x and s = x.y - x.c; the shift is the same for every candidate.)

1. A float32 product of length K, in any order, with or without fused multiply-adds, is off by at most
   g sum|a_i b_i| (Higham 2002, section 3.1), so by g |x'||y'| for the vectors (Cauchy-Schwarz) and by g times
   the size of the extra columns.
2. A float32 subtraction is rounded once: |x' - (x - c)| <= u |x - c|. With r = |x'| + |y'| this moves the
   distance by at most 1.001 u r, so D by at most 2.01 u r^2 and s by 1.01 u r^2. (Inner product: s moves by
   1.001 u |x||y'|.)
3. Rule 8's own rounding: a difference, a square and an fsum in float64 are 5 * 2^-53 of D. (Inner product:
   2^-53 |x||y| <= 2^-53 |x| (|y'| + |c|).)
4. Underflow, even where a library flushes to zero: at most 2^-126 for each of K products and sums, and 2^-126
   for each input: below K 2^-120 (1 + |x'| + max|y'|).

With A = 1.2 g + 3u and B = 0.6 g + 2u the sum of all this is at most A |x'||y'| + B |y'|^2 + C, where C, the same
for every candidate, is 1.1 u |x'|^2 (inner product: 2^-50 |x| (max|y'| + |c|)) plus 4. Nothing overflows while
(|x'| + max|y'|)^2 < 2^125. A conventional float32 product is assumed: no Strassen, no reduced precision.

Centring is what keeps |x'||y'| small where all vectors share an offset (pixels: all positive).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np

from pe_beam.voting.decide import Pairs

_UNIT = 2.0**-24  # of float32
_SAFE = 2.0**125
_MOST_PAIRS = 1 << 21  # 32 MB of pairs; past it a block is halved
_LOWEST = np.finfo(np.float32).min


class Proposer(Protocol):
    """Proposes, for each query, a set of candidates that holds all of its `votes` nearest."""

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """All pairs that may win; None if they are too many for one block (never for a single query).

        Args:
          placed: float32 (n, d), queries as `Frame.place` leaves them, all of them `Frame.safe`.
          radii: float64 (n,), their norms.
        """


def product_error(length: int) -> float:
    """g of the module's docstring: the relative error of a float32 product of `length` terms.

    >>> 128 * 2**-24 <= product_error(128) < 129 * 2**-24
    True
    """
    return length * _UNIT / (1 - length * _UNIT) if length * _UNIT < 0.01 else np.inf


@dataclass(frozen=True)
class Frame:
    """The candidates moved to their centre, and what the error bound needs of them.

    Attributes:
      centre: float32 (d,). offset: its norm.
      vectors: float32 (m, d), y' of the module's docstring.
      norms: float64 (m,), |y'|. largest: their maximum.
      product: inner products; then queries stay where they are.
    """

    centre: np.ndarray
    offset: float
    vectors: np.ndarray
    norms: np.ndarray
    largest: float
    product: bool

    @classmethod
    def of(cls, candidates: np.ndarray, *, product: bool) -> Frame:
        """The frame of float32 (m, d) candidates, m > 0. Overflow makes it unsafe for every query, not wrong."""
        centre = candidates.mean(axis=0, dtype=np.float64).astype(np.float32)
        with np.errstate(over="ignore"):
            vectors = candidates - centre
        norms = _norms(vectors)
        return cls(centre, float(_norms(centre[None])[0]), vectors, norms, float(norms.max()), product)

    def place(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x' of float32 (n, d) queries, float32 (n, d), and its norms, float64 (n,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            placed = queries if self.product else queries - self.centre
        return placed, _norms(placed)

    def safe(self, radii: np.ndarray) -> np.ndarray:
        """Bool (n,): no float32 product of this query can overflow. Not so for NaN."""
        with np.errstate(over="ignore"):
            safe: np.ndarray = (radii + self.largest) ** 2 < _SAFE
        return safe

    def constant_error(self, radii: np.ndarray) -> np.ndarray:
        """C of the module's docstring, float64 (n,)."""
        underflow = (len(self.centre) + 2) * 2.0**-120 * (1 + radii + self.largest)
        if self.product:
            return 2.0**-50 * radii * (self.largest + self.offset) + underflow
        return 1.1 * _UNIT * radii**2 + underflow


class BlasProposer:
    """A block of queries times a tile of candidates (NumPy's BLAS), then a scan of the products.

    Two extra columns make a product the *upper bound* of s: x' |-> (x', 1, |x'|) and
    y' |-> (y', -|y'|^2/2 + B |y'|^2, A |y'|). So the bound is each candidate's own, and one far candidate does
    not blur the rest. The lower bound is 2 (A |x'||y'| + B |y'|^2) beneath it.

    Args:
      frame: the candidates. votes: how many nearest each query asks for.
      tile: candidates at a time; with the block it bounds memory.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        count, dimension = frame.vectors.shape
        error = product_error(dimension + 2)
        self._a = 1.2 * error + 3 * _UNIT
        self._b = 0.0 if frame.product else 0.6 * error + 2 * _UNIT
        self._frame, self._votes = frame, votes
        self._tile = -(-count // -(-count // tile))  # equal tiles
        half = 0.0 if frame.product else 0.5
        self._matrix = np.empty((count, dimension + 2), dtype=np.float32)
        self._matrix[:, :-2] = frame.vectors
        with np.errstate(over="ignore", invalid="ignore"):  # then no query is safe, and nobody asks
            self._matrix[:, -2] = (self._b - half) * frame.norms**2
            self._matrix[:, -1] = self._a * frame.norms
        self._local = threading.local()

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        left = np.ones((len(placed), placed.shape[1] + 2), dtype=np.float32)
        left[:, :-2] = placed
        left[:, -1] = radii
        margin = 2 * self._frame.constant_error(radii)
        lows = np.full((self._votes, len(left)), -np.inf)  # the best lower bounds so far, of each query
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self._matrix), self._tile):
            part = self._matrix[start : start + self._tile]
            scores = self._buffer(len(left), len(part))
            np.matmul(left, part.T, out=scores)
            found += self._scan(scores, start, radii, margin, lows)
            if len(left) > 1 and sum(len(rows) for rows, _, _ in found) > _MOST_PAIRS:
                return None
        rows, columns, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        kept = np.flatnonzero(values >= _floor(lows, margin)[rows])
        kept = kept[np.argsort(rows[kept], kind="stable")]
        return Pairs(rows[kept], columns[kept])

    def _scan(
        self, scores: np.ndarray, start: int, radii: np.ndarray, margin: np.ndarray, lows: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, columns and upper bounds of what may win in this tile; raises `lows`, overwrites `scores`."""
        rows = np.arange(len(scores))
        found = []
        for _ in range(min(self._votes, scores.shape[1])):
            columns = scores.argmax(axis=1)
            upper = scores[rows, columns]
            scores[rows, columns] = -np.inf
            norms = self._frame.norms[columns + start]
            lower = upper - 2 * (self._a * radii + self._b * norms) * norms
            worst = lows.argmin(axis=0)
            lows[worst, rows] = np.maximum(lows[worst, rows], lower)
            found.append((rows, columns + start, upper))
        floor = _floor(lows, margin)
        more = np.flatnonzero(scores.max(axis=1) >= floor)
        if len(more):
            scores = scores[more]
            at, columns = np.nonzero(scores >= floor[more, None])
            found.append((more[at], columns + start, scores[at, columns]))
        return found

    def _buffer(self, rows: int, columns: int) -> np.ndarray:
        """This thread's scratch: fresh pages for every block would cost as much as the scan."""
        flat: np.ndarray | None = getattr(self._local, "flat", None)
        if flat is None or len(flat) < rows * columns:
            flat = self._local.flat = np.empty(rows * columns, dtype=np.float32)
        return flat[: rows * columns].reshape(rows, columns)


class FaissProposer:
    """faiss's flat index asked for one neighbour more; where the gap proves nothing, `fallback` answers.

    faiss sums (x - y)^2, or forms |x|^2 + |y|^2 - 2 x.y; both are within g (|x'| + |y'|)^2 for K = d + 4.
    """

    def __init__(self, frame: Frame, *, votes: int, fallback: Proposer) -> None:
        dimension = frame.vectors.shape[1]
        self._frame, self._votes, self._fallback = frame, votes, fallback
        self._error = 1.2 * product_error(dimension + 4) + 4 * _UNIT
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
        rows, columns = np.concatenate([rows, rest[more.rows]]), np.concatenate([columns, more.columns])
        order = np.argsort(rows, kind="stable")
        return Pairs(rows[order], columns[order])


def _norms(vectors: np.ndarray) -> np.ndarray:
    norms: np.ndarray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return norms


def _floor(lows: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """The least float32 upper bound that may still win: rounded down, and above what was masked out."""
    floor = (lows.min(axis=0) - margin).astype(np.float32)
    return np.maximum(np.nextafter(floor, np.float32(-np.inf)), _LOWEST)
