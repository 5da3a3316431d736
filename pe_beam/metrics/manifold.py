"""Do samples lie where real records lie, and do they cover them? Balls around points, out to the k-th neighbour.

Precision and recall: Kynkäänniemi et al. 2019. Density and coverage: Naeem et al. 2020. A point is in a ball if it is
closer to its centre than the radius, by squares of float64 differences: float32 products only propose, and what lies
within their error bound is decided so.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

PRECISION_K, DENSITY_K = 3, 5
_SPARE = 4  # neighbours that faiss is asked for beyond those wanted, so that its rounding is seldom in doubt
_SPARSE = 256  # of so many pairs of a tile one at most may be decided in float64
_BLOCK, _TILE = 512, 2048  # points by centres in one product: 4 MB, which stay in a cache while they are compared


def neighbour_radii(points: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Squared distances to the k-th nearest other point.

    Args:
      points: float32 (n, d), n at least 2.
      ks: each at least 1; taken as n - 1 where it is larger.

    Returns:
      float64 (len(ks), n). A point that is there several times has neighbours at distance 0.
    """
    import faiss

    count = len(points)
    if count < 2 or min(ks) < 1:
        raise ValueError(f"neighbour_radii: 2 points and k of 1 at least are wanted; got {count} and {list(ks)}")
    ks = [min(k, count - 1) for k in ks]
    asked = min(max(ks) + 1 + _SPARE, count)
    near, _ = _centred(points, points)
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(near)
    bounds = 2 * _half_error(near, near)
    radii = np.empty((len(ks), count))
    for rows in _ranges(count, 4 * _TILE):
        rough, found = index.search(near[rows], asked)
        exact = np.sort(_to_found(points[rows], points, found), axis=1)  # the point itself is among the nearest
        # A neighbour that was not found is no closer than the last that was.
        far = exact[:, max(ks)]
        doubtful = (far > 0) & (rough[:, -1] - bounds[rows] < far) & (asked < count)
        for row in np.flatnonzero(doubtful):
            exact[row] = _all_of(points[rows.start + row], points)[:asked]
        radii[:, rows] = exact[:, ks].T
    return radii


@dataclass(frozen=True)
class Manifold:
    """Shares of 0 to 1; density may be above 1.

    Attributes:
      precision: samples inside a ball of a real record (k = 3).
      recall: real records inside a ball of a sample (k = 3).
      density: balls of real records (k = 5) that a sample lies in, over 5.
      coverage: real records with a sample in their ball (k = 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def compare_manifolds(
    made: np.ndarray, real: np.ndarray, *, real_radii: np.ndarray, precision_k: int = PRECISION_K, k: int = DENSITY_K
) -> Manifold:
    """All four figures, in one pass over all pairs.

    Args:
      made: samples, float32 (n, d), n at least 2.
      real: float32 (m, d), m at least 2.
      real_radii: `neighbour_radii(real, [precision_k, k])`.
      precision_k: neighbours for precision and recall.
      k: neighbours for density and coverage; in the divisor of density m - 1 where it is larger.
    """
    made_radii = neighbour_radii(made, [precision_k])[0]
    scan = _Scan(made, real, made_radii, real_radii[0], real_radii[1])
    blocks = list(_ranges(len(made), _BLOCK))
    threads = max(1, min(os.cpu_count() or 1, len(blocks)))
    # One product a thread: comparing takes longer than multiplying, and BLAS would leave it to one core.
    with threadpool_limits(limits=1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(scan.rows, blocks))
    return Manifold(
        precision=float(scan.near_real.mean()),
        recall=float(scan.near_made.mean()),
        density=scan.inside / (min(k, len(real) - 1) * len(made)),
        coverage=float(scan.covered.mean()),
    )


class _Scan:
    """Which of `made` are in balls around `real`, and the other way round, tile by tile."""

    def __init__(self, made: np.ndarray, real: np.ndarray, *radii: np.ndarray) -> None:
        self._made, self._real = made, real
        self._near_made, self._near_real = _centred(made, real)
        # Rows (x, |x|^2/2, 1) . (y, -1, -|y|^2/2) = -|x - y|^2 / 2: one product gives all that is compared.
        norms = [(x.astype(np.float64) ** 2).sum(axis=1, keepdims=True) / 2 for x in (self._near_made, self._near_real)]
        one = [np.ones_like(norm) for norm in norms]
        self._left = np.hstack([self._near_made, norms[0], one[0]]).astype(np.float32)
        self._right = np.hstack([self._near_real, -one[1], -norms[1]]).astype(np.float32)
        self._row_error = _half_error(self._near_made, self._near_real)
        self._column_error = _half_error(self._near_real, self._near_made)
        self._made_radii, self._real_radii, self._wide_radii = radii
        self.near_real = np.zeros(len(made), dtype=bool)
        self.near_made = np.zeros(len(real), dtype=bool)
        self.covered = np.zeros(len(real), dtype=bool)
        self.inside = 0
        self._lock = threading.Lock()

    def rows(self, rows: slice) -> None:
        """Adds what some of `made` show, from any thread."""
        for columns in _ranges(len(self._real), _TILE):
            self._tile(rows, columns, self._left[rows] @ self._right[columns].T)

    def _tile(self, rows: slice, columns: slice, product: np.ndarray) -> None:
        """A ball of the 3rd neighbour lies in that of the 5th, so two comparisons find all pairs that matter."""
        perhaps_real = product >= _below(-self._wide_radii[columns] / 2, self._column_error[columns])
        perhaps_made = product >= _below(-self._made_radii[rows, None] / 2, self._row_error[rows, None])
        if max(np.count_nonzero(perhaps_real), np.count_nonzero(perhaps_made)) > product.size // _SPARSE:
            self._dense_tile(rows, columns, product)
            return
        a, b, squares = self._pairs(perhaps_real, rows, columns)
        wide = squares < self._wide_radii[b]
        self.near_real[a[squares < self._real_radii[b]]] = True  # these rows are this thread's alone
        c, d, others = self._pairs(perhaps_made, rows, columns)
        with self._lock:
            self.inside += int(np.count_nonzero(wide))
            self.covered[b[wide]] = True
            self.near_made[d[others < self._made_radii[c]]] = True

    def _pairs(self, perhaps: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of both sides of the pairs of a tile, and their squared distances."""
        i, j = np.divmod(np.flatnonzero(perhaps), perhaps.shape[1])  # much faster than nonzero of a matrix
        a, b = rows.start + i, columns.start + j
        return a, b, _squares(self._made[a], self._real[b])

    def _dense_tile(self, rows: slice, columns: slice, product: np.ndarray) -> None:
        """Where many pairs are inside, as with repeated points, float32 decides all that it can."""
        at, error = (rows, columns), self._column_error[columns]
        sure, unsure = _split(product, -self._real_radii[columns] / 2, error)
        self.near_real[rows] |= sure.any(axis=1)  # these rows are this thread's alone
        for i, _ in self._decide(unsure, at, self._real_radii, by_row=False):
            self.near_real[rows.start + i] = True
        wide, unsure = _split(product, -self._wide_radii[columns] / 2, error)
        more = self._decide(unsure, at, self._wide_radii, by_row=False)
        sure, unsure = _split(product, -self._made_radii[rows, None] / 2, self._row_error[rows, None])
        near = self._decide(unsure, at, self._made_radii, by_row=True)
        covered, reached = np.asarray(wide.any(axis=0)), np.asarray(sure.any(axis=0))
        covered[[j for _, j in more]] = True
        reached[[j for _, j in near]] = True
        with self._lock:
            self.inside += int(np.count_nonzero(wide)) + len(more)
            self.covered[columns] |= covered
            self.near_made[columns] |= reached

    def _decide(
        self, unsure: np.ndarray | None, at: tuple[slice, slice], radii: np.ndarray, *, by_row: bool
    ) -> list[tuple[int, int]]:
        """The pairs of a tile that lie inside, out of those that float32 cannot tell."""
        inside: list[tuple[int, int]] = []
        if unsure is None:
            return inside
        i, j = np.nonzero(unsure)
        for part in _ranges(len(i), 1 << 16):
            a, b = at[0].start + i[part], at[1].start + j[part]
            found = _squares(self._made[a], self._real[b]) < radii[a if by_row else b]
            inside += zip(i[part][found].tolist(), j[part][found].tolist(), strict=True)
        return inside


def _split(product: np.ndarray, limit: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Entries surely above the limit, and those within the error of it (None: there are none)."""
    up = np.nextafter((limit + error).astype(np.float32), np.float32(np.inf))
    sure, perhaps = product > up, product >= _below(limit, error)
    return sure, None if np.count_nonzero(sure) == np.count_nonzero(perhaps) else perhaps ^ sure


def _below(limit: np.ndarray, error: np.ndarray) -> np.ndarray:
    """What float32 gives at least for an entry that is not under the limit."""
    return np.nextafter((limit - error).astype(np.float32), np.float32(-np.inf))


def _centred(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both moved by the mean of the second, as float32: short vectors have small errors."""
    middle = b.mean(axis=0, dtype=np.float64)
    return (a - middle).astype(np.float32), (b - middle).astype(np.float32)


def _half_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bound on the error of float32 -|x - y|^2 / 2 for each row x of `a` and all y of `b`, float64 (n,).

    d + 2 products and sums of rounding 2^-24 each on terms that add up to (|x| + |y|)^2 / 2 at most in absolute value,
    and a few more roundings for moving the vectors, their norms and the limit; the 16 leaves room for those.
    """
    lengths, others = (np.sqrt((x.astype(np.float64) ** 2).sum(axis=1)) for x in (a, b))
    return (a.shape[1] + 16) * 2.0**-24 * (lengths + others.max()) ** 2 + 1e-30


def _to_found(queries: np.ndarray, points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Squared distances float64 (n, k) from each query to the points that were found for it."""
    columns = [_squares(queries, points[found[:, column]]) for column in range(found.shape[1])]
    return np.stack(columns, axis=1)


def _all_of(query: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Squared distances from one query to all points, ascending."""
    return np.sort(np.concatenate([_squares(query[None], points[part]) for part in _ranges(len(points), _TILE)]))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, float64: the one definition of a squared distance here, the same in both directions."""
    difference = a.astype(np.float64) - b
    return np.einsum("ij,ij->i", difference, difference)


def _ranges(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
