"""The contract of a search engine, which proposes every candidate that may be nearest, within a proven error bound.

An engine is a class of `Proposer`s, registered under the entry point group `pe_beam.search_engines`. `voting.decide`
makes the final decision, so engines differ in speed and never in a vote.

The bound. Write u = 2^-24, c for the centre, x' = fl(x - c), y' = fl(y - c), and g = Ku / (1 - Ku) for a sum of
K products. The exact ranking value is s = (|x'|^2 - D) / 2, where D is rule 8's squared distance of x and y. A larger
s means a nearer candidate. (Inner product: x' = x and s = x.y - x.c; the shift is the same for every candidate.)

1. The error of a float32 product of length K, in any order, with or without fused multiply-adds, is at most
   g sum|a_i b_i| (Higham 2002, section 3.1). This is at most g |x'||y'| for the vectors (Cauchy-Schwarz), and g
   times the size of the extra columns.
2. A float32 subtraction is rounded once: |x' - (x - c)| <= u |x - c|. With r = |x'| + |y'| this moves the
   distance by at most 1.001 u r, so D by at most 2.01 u r^2 and s by 1.01 u r^2. (Inner product: s moves by
   1.001 u |x||y'|.)
3. Rule 8's own rounding: the error of a difference, a square and an fsum in float64 is 5 * 2^-53 of D. (Inner product:
   2^-53 |x||y| <= 2^-53 |x| (|y'| + |c|).)
4. Underflow, even if a library flushes to zero: at most 2^-126 for each of K products and sums, and 2^-126
   for each input; together below K 2^-120 (1 + |x'| + max|y'|).

With A = 1.2 g + 3u and B = 0.6 g + 2u the sum of these errors is at most A |x'||y'| + B |y'|^2 + C. C is the same
for every candidate: 1.1 u |x'|^2 (inner product: 2^-50 |x| (max|y'| + |c|)) plus the error of item 4. Nothing
overflows while (|x'| + max|y'|)^2 < 2^125. The proof assumes a conventional float32 product: no Strassen, no reduced
precision.

Centring keeps |x'||y'| small if all vectors share an offset (pixels: all positive). Where the candidates' mean is short
beside the candidates, c = 0, and queries are used as they are.

The norm of a query need not be known well, so it is bounded by a float32 product of the query with itself. Such a
product p is at least (1 - g)|x'|^2 - 2K 2^-126 with K = d (items 1 and 4), so |x'|^2 <= (p + K 2^-125) / (1 - g).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

UNIT = 2.0**-24
"""The u of the module's docstring: the rounding unit of float32."""
USUAL_BLOCK = 1024
"""Queries at a time; with fewer, BLAS needs more time to pack the candidates."""
_SAFE = 2.0**125
_NEAR = 0.2
"""Queries are not moved while the squared mean of the candidates is such a share of their mean square, or less: norms
are then at most 1.12 times as long."""
_MOVED = 1 << 13  # numbers that one step of a subtraction takes: rows by themselves would cost a call each


@dataclass(frozen=True)
class Pairs:
    """Proposed (query, candidate) pairs.

    Attributes:
      rows, columns: int64 (p,) each, rows ascending.
      low, high: float (p,) each, bounds of s plus anything that is the same for all pairs of a query; None if the
        engine does not say. They spare the decision work, and change no answer.
    """

    rows: np.ndarray
    columns: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def part(self, which: np.ndarray) -> Pairs:
        """Returns the pairs at some indexes, int64, or where bool (p,) is True. Their rows must ascend."""
        bounds = (None if bound is None else bound[which] for bound in (self.low, self.high))
        return Pairs(self.rows[which], self.columns[which], *bounds)

    @classmethod
    def joined(cls, one: Pairs, other: Pairs) -> Pairs:
        """Returns the pairs of both, which are of different queries."""
        bounds: list[np.ndarray | None] = []
        for mine, its in ((one.low, other.low), (one.high, other.high)):
            bounds.append(None if mine is None or its is None else np.concatenate([mine, its]))
        both = cls(np.concatenate([one.rows, other.rows]), np.concatenate([one.columns, other.columns]), *bounds)
        return both.part(np.argsort(both.rows, kind="stable"))


class Proposer(Protocol):
    """Proposes, for each query, a set of candidates that contains all of its `votes` nearest ones.

    It may have an attribute `block`: the number of queries that it likes to be given at a time (`block_of`), and
    `one_thread`: True if it likes several blocks side by side, with one thread of BLAS each (`one_thread_of`).
    """

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """Returns all pairs that may win; None if they are too many for one block (never for a single query).

        Args:
          placed: float32 (n, d), queries as `Frame.place` returns them, all of them `Frame.safe`. It is read only, and
            what is in it lasts until this call returns.
          radii: float64 (n,), upper bounds of their norms.
        """


class SearchEngine(Protocol):
    """Makes a proposer. It is usually a class of proposers."""

    def __call__(self, frame: Frame, *, votes: int, tile: int) -> Proposer:
        """Returns a proposer for one label's candidates. Several threads may use the proposer at once.

        Args:
          frame: the candidates: distinct, and at least `votes` of them.
          votes: number of nearest candidates that each query asks for, 1 or more.
          tile: number of candidates per step. Tile and block of queries together bound memory.
        """


def block_of(proposer: Proposer) -> int:
    """Returns how many queries a proposer likes to be given at a time: USUAL_BLOCK if it does not say."""
    return int(getattr(proposer, "block", USUAL_BLOCK))


def one_thread_of(proposer: Proposer) -> bool:
    """Returns whether a proposer likes several blocks side by side, with one thread of BLAS each."""
    return bool(getattr(proposer, "one_thread", False))


def product_error(length: int) -> float:
    """Returns the g of the module's docstring: the relative error of a float32 product of `length` terms.

    >>> 128 * 2**-24 <= product_error(128) < 129 * 2**-24
    True
    """
    return length * UNIT / (1 - length * UNIT) if length * UNIT < 0.01 else np.inf


def bounds(length: int, *, product: bool) -> tuple[float, float]:
    """Returns the A and B of the module's docstring for a product of this length; B is 0 for inner products."""
    error = product_error(length)
    return 1.2 * error + 3 * UNIT, 0.0 if product else 0.6 * error + 2 * UNIT


@dataclass(frozen=True)
class Frame:
    """The candidates relative to their centre, with the norms that the error bound needs.

    Attributes:
      centre: float32 (d,): the candidates' mean, or zero if that is short beside them.
      offset: norm of the centre.
      vectors: float32 (m, d), y' of the module's docstring.
      norms: float64 (m,), |y'|.
      largest: maximum of the norms.
      product: whether scores are inner products. Queries are then not moved.
    """

    centre: np.ndarray
    offset: float
    vectors: np.ndarray
    norms: np.ndarray
    largest: float
    product: bool

    @classmethod
    def of(cls, candidates: np.ndarray, *, product: bool) -> Frame:
        """Returns the frame of float32 (m, d) candidates, m > 0. After an overflow no query is `safe` in it."""
        centre = candidates.mean(axis=0, dtype=np.float64).astype(np.float32)
        offset = float(row_norms(centre[None])[0])
        if not product and offset**2 <= _NEAR * float(np.square(row_norms(candidates)).mean()):
            centre, offset = np.zeros_like(centre), 0.0
        with np.errstate(over="ignore"):
            vectors = candidates - centre
        norms = row_norms(vectors)
        return cls(centre, offset, vectors, norms, float(norms.max()), product)

    @property
    def moves(self) -> bool:
        """Whether `place` moves queries at all."""
        return not self.product and self.offset > 0

    def place(self, queries: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns x' of float32 (n, d) queries, and upper bounds of the norms of x', float64 (n,).

        Args:
          queries: float32 (n, d).
          out: float32 (n, d), contiguous, where moved queries go. Queries that are not moved are returned themselves.
        """
        placed = queries
        if self.moves:
            placed = np.empty(queries.shape, dtype=np.float32) if out is None else out
            with np.errstate(over="ignore", invalid="ignore"):
                _subtract(queries, self.centre, placed)
        return placed, norms_at_most(placed)

    def safe(self, radii: np.ndarray) -> np.ndarray:
        """Returns bool (n,): True if no float32 product of this query can overflow. It is False for NaN."""
        safe: np.ndarray = (radii + self.largest) ** 2 < _SAFE
        return safe

    def constant_error(self, radii: np.ndarray) -> np.ndarray:
        """Returns the C of the module's docstring, float64 (n,)."""
        underflow = (len(self.centre) + 2) * 2.0**-120 * (1 + radii + self.largest)
        if self.product:
            return 2.0**-50 * radii * (self.largest + self.offset) + underflow
        return 1.1 * UNIT * radii**2 + underflow


def row_norms(vectors: np.ndarray) -> np.ndarray:
    """Returns the norms of float32 (n, d) rows, float64 (n,)."""
    norms: np.ndarray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return norms


def norms_at_most(vectors: np.ndarray) -> np.ndarray:
    """Returns upper bounds of the norms of float32 (n, d) rows, float64 (n,), by float32 products: see the module's
    docstring. They are infinite or NaN for rows with such numbers, from 2^64 on, and where float32 proves nothing."""
    count, dimension = vectors.shape
    error = product_error(dimension)
    if error >= 1:
        return np.full(count, np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.matmul(vectors[:, None, :], vectors[:, :, None]).reshape(count).astype(np.float64)
    bounds: np.ndarray = np.sqrt((squares + dimension * 2.0**-125) * ((1 + 2.0**-50) / (1 - error)))
    return bounds


def _subtract(vectors: np.ndarray, centre: np.ndarray, out: np.ndarray) -> None:
    """Moves float32 (n, d) rows, several in a step."""
    count, dimension = vectors.shape
    step = max(1, _MOVED // dimension)
    whole = count - count % step
    if vectors.flags.c_contiguous and step > 1:
        shape = (whole // step, step * dimension)
        np.subtract(vectors[:whole].reshape(shape), np.tile(centre, step), out=out[:whole].reshape(shape))
    else:
        whole = 0
    np.subtract(vectors[whole:], centre, out=out[whole:])
