"""Engine `prefix`: a short product of rotated coordinates bounds every score, and what may win is computed whole.

The upper bound of s (`contracts.search`) is one product of length K = r + 3: x' |-> (a, p, 1, |x'|) and
y' |-> (b, q, -|y'|^2/2 + B |y'|^2, A |y'|), where a, b are r rotated coordinates and p, q residual norms
(`search.rotation`). As sum|a_i b_i| + pq <= 1.0001 |x'||y'|, A is 1.2 g + 3u plus the error of the rotation, and B is
0.6 g + 2u, with the g of this K. What may win by this bound is multiplied out in float32 (A and B of K = d + 2), and
what may win then is proposed. A candidate that sets the floor stays: its upper bound is at least its lower bound - 2C.

How many coordinates are kept follows from the candidates, asked about one another. They are public. Where that promises
no gain (isotropic vectors, few candidates, few dimensions), `blas` answers. So it does for queries that the short
product leaves too many candidates.
"""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.search import Frame, Pairs, bounds
from pe_beam.voting.search.bounded import MOST_PAIRS, BoundedProposer
from pe_beam.voting.search.rotation import Rotation, principal_axes
from pe_beam.voting.search.scan import Scan, floor_of, raise_lows, widths

_FEWEST, _NARROWEST = 2000, 48  # candidates and dimensions from which a rotation may pay
_ASKED = 96  # candidates that are asked about the others
_PAIR_COST = 18.0  # of a product of one pair, in products of a pair within a matrix
_CROWD = 0.35  # share of the folds from which on a query is left to `blas`
_SCAN_COST = 20.0  # of what is done besides, in coordinates
_WORTH = 0.9  # share of the cost of `blas` from which on the rotation is not worth it


class PrefixProposer(BoundedProposer):
    """Bounds all scores by a short product, and computes those that may win.

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for.
      tile: candidates at a time. Tile and block together bound memory.

    Attributes:
      kept: number of rotated coordinates, r; 0 if `blas` answers.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        super().__init__(frame, votes=votes, tile=tile)
        count, dimension = frame.vectors.shape
        self.kept = 0
        if frame.safe(np.array([frame.largest]))[0] and _may_pay(count, dimension, votes):
            axes = principal_axes(frame.vectors)
            self.kept = _best_length(frame, axes, votes)
        self.pays = self.kept > 0
        if not self.pays:
            return
        self._rotation = Rotation.of(axes[: self.kept])
        self._width, tiles = widths(count, tile)
        a, b = bounds(self.kept + 3, product=frame.product)
        self._matrix = np.zeros((self._width * tiles, self.kept + 3), dtype=np.float32)
        self._matrix[count:, -2] = -np.inf  # padding never wins
        real = self._matrix[:count]
        self._rotation.rotate(frame.vectors, frame.norms, real[:, :-2])
        real[:, -2] = (b - self._half) * frame.norms**2
        real[:, -1] = (a + self._rotation.error) * frame.norms
        self._scan = Scan(votes + 1)  # the short product may have another one before the best

    def _bounded(self, placed: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, Pairs | None]:
        """Returns bool (n,), True where the bound leaves too many candidates, and proposals for the other queries."""
        left = self._scan.scratch(len(placed), self.kept + 3)
        self._rotation.rotate(placed, radii, left[:, :-2])
        left[:, -2], left[:, -1] = 1, radii
        margin = 2 * self._frame.constant_error(radii)
        lows = np.full((self._votes, len(left)), -np.inf)
        crowded = np.zeros(len(left), dtype=bool)
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self._matrix), self._width):
            scores, folds = self._scan.multiply(left, self._matrix[start : start + self._width])
            columns, upper = self._scan.probe(scores, folds)
            probes, rows = np.nonzero(upper >= floor_of(lows, margin))  # no padding
            value, error = self._whole(rows, columns[probes, rows] + start, placed, radii)
            lower = np.full(upper.shape, -np.inf)
            lower[probes, rows] = value - error
            lows = raise_lows(lows, lower)
            floor = floor_of(lows, margin)
            crowded |= np.count_nonzero(folds >= floor[:, None], axis=1) > max(_CROWD * folds.shape[1], 8 * self._votes)
            rows, columns, values = self._scan.reach(scores, folds, np.where(crowded, np.float32(np.inf), floor))
            found.append((rows, columns + start, values))
            if len(left) > 1 and sum(len(rows) for rows, _, _ in found) > MOST_PAIRS:
                return crowded, None
        rows, columns, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        kept = (values >= floor_of(lows, margin)[rows]) & ~crowded[rows]
        return crowded, self._narrow(rows[kept], columns[kept], placed, radii, margin)


def _may_pay(count: int, dimension: int, votes: int) -> bool:
    return count >= max(_FEWEST, 50 * votes) and dimension >= _NARROWEST


def _best_length(frame: Frame, axes: np.ndarray, votes: int) -> int:
    """Returns how many coordinates to keep; 0 if keeping all is as good.

    Some candidates are asked about the others: their bounds tell how many pairs would be left. It is an estimate, and
    nothing but time depends on it.
    """
    count, dimension = frame.vectors.shape
    asked = np.arange(0, count, -(-count // _ASKED))
    turned = frame.vectors @ axes.T.astype(np.float32)
    half = 0.0 if frame.product else 0.5
    base = -half * frame.norms**2
    scores = turned[asked] @ turned.T + base
    scores[np.arange(len(asked)), asked] = -np.inf  # a record is never itself a candidate
    floor = np.partition(scores, count - votes, axis=1)[:, count - votes, None]
    best, cheapest = 0, _WORTH * dimension
    scores = np.broadcast_to(base, scores.shape).copy()
    step = max(16, dimension // 24 // 16 * 16)
    for start in range(0, int(0.7 * dimension), step):
        stop = start + step
        scores += turned[asked, start:stop] @ turned[:, start:stop].T
        rest = np.sqrt(np.square(turned[:, stop:]).sum(axis=1))
        left = np.count_nonzero(scores + rest[asked, None] * rest >= floor, axis=1) / count
        cost = stop + _SCAN_COST + float(np.minimum(left * _PAIR_COST, 1).mean()) * dimension
        if cost < cheapest:
            best, cheapest = stop, cost
    return best
