"""Precision, recall, density and coverage of samples: they use balls around points, up to the k-th neighbour.

Precision and recall: Kynkäänniemi et al. 2019. Density and coverage: Naeem et al. 2020. A point is in a ball if its
distance to the centre is below the radius. Float32 products decide most pairs; pairs within the error bound of these
products are decided by squares of float64 differences.
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
_SPARE = 4  # additional neighbours that faiss is asked for, so that its rounding seldom matters
_SPARSE = 256  # at most one in this many pairs of a tile is decided in float64
_BLOCK, _TILE = 512, 2048  # points and centres in one product: 4 MB, which fit into a cache while they are compared


def neighbour_radii(points: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Returns the squared distances to the k-th nearest other point.

    Args:
      points: float32 (n, d), n at least 2.
      ks: each at least 1; a larger one than n - 1 is replaced by n - 1.

    Returns:
      float64 (len(ks), n). A point that occurs several times has neighbours at distance 0.
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
        # A neighbour that was not found is not closer than the last one that was found.
        far = exact[:, max(ks)]
        doubtful = (far > 0) & (rough[:, -1] - bounds[rows] < far) & (asked < count)
        for row in np.flatnonzero(doubtful):
            exact[row] = _all_of(points[rows.start + row], points)[:asked]
        radii[:, rows] = exact[:, ks].T
    return radii


@dataclass(frozen=True)
class Manifold:
    """Four figures from 0 to 1, except density, which may be above 1.

    Attributes:
      precision: share of samples inside a ball of a real record (k = 3).
      recall: share of real records inside a ball of a sample (k = 3).
      density: mean number of balls of real records (k = 5) that contain a sample, divided by 5.
      coverage: share of real records with a sample in their ball (k = 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def compare_manifolds(
    made: np.ndarray, real: np.ndarray, *, real_radii: np.ndarray, precision_k: int = PRECISION_K, k: int = DENSITY_K
) -> Manifold:
    """Returns all four figures, in one pass over all pairs.

    Args:
      made: samples, float32 (n, d), n at least 2.
      real: float32 (m, d), m at least 2.
      real_radii: `neighbour_radii(real, [precision_k, k])`.
      precision_k: number of neighbours for precision and recall.
      k: number of neighbours for density and coverage. The divisor of density is at most m - 1.
    """
    made_radii = neighbour_radii(made, [precision_k])[0]
    scan = _Scan(made, real, made_radii, real_radii[0], real_radii[1])
    blocks = list(_ranges(len(made), _BLOCK))
    threads = max(1, min(os.cpu_count() or 1, len(blocks)))
    # One product per thread: comparisons take longer than products, and BLAS would leave them to one core.
    with threadpool_limits(limits=1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(scan.rows, blocks))
    return Manifold(
        precision=float(scan.near_real.mean()),
        recall=float(scan.near_made.mean()),
        density=scan.inside / (min(k, len(real) - 1) * len(made)),
        coverage=float(scan.covered.mean()),
    )


class _Scan:
    """Finds which of `made` are in balls around `real`, and which of `real` in balls around `made`, tile by tile."""

    def __init__(self, made: np.ndarray, real: np.ndarray, *radii: np.ndarray) -> None:
        self._made, self._real = made, real
        self._near_made, self._near_real = _centred(made, real)
        # Rows (x, |x|^2/2, 1) . (y, -1, -|y|^2/2) = -|x - y|^2 / 2: one product gives all values to compare.
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
        """Adds the results of some rows of `made`. Any thread may call it."""
        for columns in _ranges(len(self._real), _TILE):
            self._tile(rows, columns, self._left[rows] @ self._right[columns].T)

    def _tile(self, rows: slice, columns: slice, product: np.ndarray) -> None:
        """Handles one tile. The ball of the 3rd neighbour is in that of the 5th, so two comparisons find all pairs."""
        perhaps_real = product >= _below(-self._wide_radii[columns] / 2, self._column_error[columns])
        perhaps_made = product >= _below(-self._made_radii[rows, None] / 2, self._row_error[rows, None])
        if max(np.count_nonzero(perhaps_real), np.count_nonzero(perhaps_made)) > product.size // _SPARSE:
            self._dense_tile(rows, columns, product)
            return
        a, b, squares = self._pairs(perhaps_real, rows, columns)
        wide = squares < self._wide_radii[b]
        self.near_real[a[squares < self._real_radii[b]]] = True  # only this thread writes these rows
        c, d, others = self._pairs(perhaps_made, rows, columns)
        with self._lock:
            self.inside += int(np.count_nonzero(wide))
            self.covered[b[wide]] = True
            self.near_made[d[others < self._made_radii[c]]] = True

    def _pairs(self, perhaps: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the rows of both sides of a tile's pairs, and their squared distances."""
        i, j = np.divmod(np.flatnonzero(perhaps), perhaps.shape[1])  # much faster than nonzero of a matrix
        a, b = rows.start + i, columns.start + j
        return a, b, _squares(self._made[a], self._real[b])

    def _dense_tile(self, rows: slice, columns: slice, product: np.ndarray) -> None:
        """Handles a tile with many pairs inside, such as repeated points: float32 decides every pair that it can."""
        at, error = (rows, columns), self._column_error[columns]
        sure, unsure = _split(product, -self._real_radii[columns] / 2, error)
        self.near_real[rows] |= sure.any(axis=1)  # only this thread writes these rows
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
        """Returns the pairs of a tile that are inside, of those that float32 cannot decide."""
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
    """Returns the entries certainly above the limit, and those within the error of it (None if there are none)."""
    up = np.nextafter((limit + error).astype(np.float32), np.float32(np.inf))
    sure, perhaps = product > up, product >= _below(limit, error)
    return sure, None if np.count_nonzero(sure) == np.count_nonzero(perhaps) else perhaps ^ sure


def _below(limit: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Returns the smallest float32 result of an entry that is not below the limit."""
    return np.nextafter((limit - error).astype(np.float32), np.float32(-np.inf))


def _centred(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtracts the mean of `b` from both and returns float32. Shorter vectors have smaller errors."""
    middle = b.mean(axis=0, dtype=np.float64)
    return (a - middle).astype(np.float32), (b - middle).astype(np.float32)


def _half_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns a bound on the error of float32 -|x - y|^2 / 2 for each row x of `a` and all y of `b`, float64 (n,).

    There are d + 2 products and sums with a rounding of 2^-24 each. The absolute values of their terms have a sum of at
    most (|x| + |y|)^2 / 2. Centring, norms and the limit need a few more roundings; the 16 covers those.
    """
    lengths, others = (np.sqrt((x.astype(np.float64) ** 2).sum(axis=1)) for x in (a, b))
    return (a.shape[1] + 16) * 2.0**-24 * (lengths + others.max()) ** 2 + 1e-30


def _to_found(queries: np.ndarray, points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Returns squared distances, float64 (n, k), from each query to the points that were found for it."""
    columns = [_squares(queries, points[found[:, column]]) for column in range(found.shape[1])]
    return np.stack(columns, axis=1)


def _all_of(query: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns squared distances from one query to all points, ascending."""
    return np.sort(np.concatenate([_squares(query[None], points[part]) for part in _ranges(len(points), _TILE)]))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns squared distances row by row, float64. All exact distances here use it. It is symmetric in a and b."""
    difference = a.astype(np.float64) - b
    return np.einsum("ij,ij->i", difference, difference)


def _ranges(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
