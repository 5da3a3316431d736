"""A search engine: proposes every candidate that may be nearest, within a proven error bound.

An engine is a class of `Proposer`s, registered under the entry point group `pe_beam.search_engines`. `voting.decide`
has the last word, so engines differ in speed and never in a vote.

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

from dataclasses import dataclass
from typing import Protocol

import numpy as np

UNIT = 2.0**-24
"""u of the module's docstring: the rounding unit of float32."""
_SAFE = 2.0**125


@dataclass(frozen=True)
class Pairs:
    """Proposed (query, candidate) pairs: int64 (p,) each, rows ascending."""

    rows: np.ndarray
    columns: np.ndarray


class Proposer(Protocol):
    """Proposes, for each query, a set of candidates that holds all of its `votes` nearest."""

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """All pairs that may win; None if they are too many for one block (never for a single query).

        Args:
          placed: float32 (n, d), queries as `Frame.place` leaves them, all of them `Frame.safe`.
          radii: float64 (n,), their norms.
        """


class SearchEngine(Protocol):
    """What makes a proposer: a class of them, as a rule."""

    def __call__(self, frame: Frame, *, votes: int, tile: int) -> Proposer:
        """A proposer for one label's candidates. Safe for use from several threads at once.

        Args:
          frame: the candidates, distinct, at least `votes`.
          votes: how many nearest each query asks for, 1 or more.
          tile: candidates at a time; with a block of queries it bounds memory.
        """


def product_error(length: int) -> float:
    """g of the module's docstring: the relative error of a float32 product of `length` terms.

    >>> 128 * 2**-24 <= product_error(128) < 129 * 2**-24
    True
    """
    return length * UNIT / (1 - length * UNIT) if length * UNIT < 0.01 else np.inf


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
        norms = row_norms(vectors)
        return cls(centre, float(row_norms(centre[None])[0]), vectors, norms, float(norms.max()), product)

    def place(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x' of float32 (n, d) queries, float32 (n, d), and its norms, float64 (n,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            placed = queries if self.product else queries - self.centre
        return placed, row_norms(placed)

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
        return 1.1 * UNIT * radii**2 + underflow


def row_norms(vectors: np.ndarray) -> np.ndarray:
    """Norms of float32 (n, d) rows, float64 (n,)."""
    norms: np.ndarray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return norms
