"""The nearest candidates, by definition and not by luck (privacy rule 8).

Distance is the sum of float64 squares of float64 differences of the frozen float32 vectors, exactly rounded
(`math.fsum`); equals go to the smaller position. faiss proposes in float32; where its error could matter, what is
in reach is measured again.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

_EXTRA = 16  # neighbours asked for where the first answer proves nothing


class NearestSearch(Protocol):
    """Finds the nearest candidates of a batch; a faster engine has to give the same answers."""

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """float32 (n, d) -> int64 (n, min(k, m)): positions of the k nearest, in no stated order."""


def normalise_rows(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length 1, computed in float64 and frozen as float32, and a mask of rows of length zero.

    Args:
      vectors: float32 (n, d).

    >>> rows, zero = normalise_rows(np.array([[3, 4], [0, 0]], dtype=np.float32))
    >>> rows.tolist(), zero.tolist()
    ([[0.6000000238418579, 0.800000011920929], [0.0, 0.0]], [False, True])
    """
    wide = vectors.astype(np.float64)
    norms = np.sqrt((wide * wide).sum(axis=1))
    zero = norms == 0
    return (wide / np.where(zero, 1.0, norms)[:, None]).astype(np.float32), zero


def cost(query: np.ndarray, candidate: np.ndarray, *, distance: str) -> float:
    """What is minimised: the squared distance, or minus the inner product. float32 (d,) each."""
    x, y = query.astype(np.float64), candidate.astype(np.float64)
    if distance == "inner_product":
        return -math.fsum((x * y).tolist())
    return math.fsum(((x - y) ** 2).tolist())


def reference_nearest(queries: np.ndarray, candidates: np.ndarray, *, distance: str, votes: int) -> np.ndarray:
    """The definition itself, slowly: int64 (n, min(k, m)), each row sorted by (cost, position)."""
    found = []
    for query in queries:
        costs = [(cost(query, row, distance=distance), position) for position, row in enumerate(candidates)]
        found.append([position for _, position in sorted(costs)[:votes]])
    return np.array(found, dtype=np.int64).reshape(len(queries), min(votes, len(candidates)))


def flat_search(candidates: np.ndarray, *, distance: str, votes: int) -> NearestSearch:
    """Exact search over float32 (m, d) candidates, sorted by id.

    Raises:
      ValueError: values that are not finite, no candidate, or an unknown distance.
    """
    if distance not in ("l2", "cosine", "inner_product"):
        raise ValueError(f"distance: {distance!r} is not l2, cosine or inner_product")
    if candidates.ndim != 2 or not len(candidates) or not np.isfinite(candidates).all():
        raise ValueError("candidates: finite, at least one, of shape (m, d)")
    return FaissSearch(candidates, distance=distance, votes=votes)


class FaissSearch:
    """faiss IndexFlat proposes one more than is wanted; a gap within its error bound is settled exactly."""

    def __init__(self, candidates: np.ndarray, *, distance: str, votes: int) -> None:
        """Builds the index; equal vectors are searched once if one vote is wanted."""
        import faiss

        self._distance = distance
        self._votes = min(votes, len(candidates))
        rows = np.ascontiguousarray(candidates, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0
        self._positions = np.arange(len(rows))
        if self._votes == 1:  # of equal candidates only the smallest id can win
            _, first = np.unique(rows.view(np.dtype((np.void, rows.strides[0]))).ravel(), return_index=True)
            self._positions = np.sort(first)
        self._rows = rows[self._positions]
        dimension = rows.shape[1]
        kind = faiss.IndexFlatIP if distance == "inner_product" else faiss.IndexFlatL2
        self._index = kind(dimension)
        self._index.add(self._rows)
        self._norm = float(np.sqrt((self._rows.astype(np.float64) ** 2).sum(axis=1).max()))
        # gamma_n of Higham (2002, section 3.1) for any order of summation, with room for the norm terms.
        self._gamma = 2 * (dimension + 8) * 2.0**-24
        self._tiny = dimension * 2.0**-120

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """float32 (n, d) -> int64 (n, min(k, m)): positions of the k nearest, in no stated order."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if not len(queries):
            return np.zeros((0, self._votes), dtype=np.int64)
        wanted = self._votes
        if wanted == len(self._rows):
            return np.tile(self._positions[:wanted], (len(queries), 1))
        values, found = self._propose(queries, wanted + 1)
        answer = found[:, :wanted].astype(np.int64)
        reach = self._reach(queries)
        with np.errstate(invalid="ignore"):
            proven = values[:, wanted] - values[:, wanted - 1] > reach
        unsure = np.flatnonzero(~proven)
        if len(unsure):
            answer[unsure] = self._settle(queries[unsure], reach[unsure])
        return self._positions[answer]

    def _propose(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        values, found = self._index.search(queries, count)
        return (-values if self._distance == "inner_product" else values).astype(np.float64), found

    def _reach(self, queries: np.ndarray) -> np.ndarray:
        """Twice the bound on faiss's error: what is further behind than this cannot win. float64 (n,)."""
        norms = np.sqrt((queries.astype(np.float64) ** 2).sum(axis=1))
        size = norms * self._norm if self._distance == "inner_product" else (norms + self._norm) ** 2
        reach = 2 * (self._gamma * size + self._tiny)
        return np.where(size < 1e37, reach, np.inf)  # beyond, float32 itself overflows

    def _settle(self, queries: np.ndarray, reach: np.ndarray) -> np.ndarray:
        count = min(self._votes + _EXTRA, len(self._rows))
        values, found = self._propose(queries, count)
        with np.errstate(invalid="ignore"):  # float32 overflowed: the row is settled among all
            edge = values[:, self._votes - 1] + reach
        answer = np.empty((len(queries), self._votes), dtype=np.int64)
        for row, query in enumerate(queries):
            inside = found[row][values[row] <= edge[row]]
            if len(inside) == count < len(self._rows) or not np.isfinite(edge[row]):
                inside = np.arange(len(self._rows))  # more are in reach than were asked for
            answer[row] = self._best(query, np.sort(inside))
        return answer

    def _best(self, query: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """The k of least exact cost among positions in ascending order; float64 sums rule most out first."""
        x, y = query.astype(np.float64), self._rows[inside].astype(np.float64)
        if self._distance == "inner_product":
            terms = -(x * y)
            sizes = np.abs(terms).sum(axis=1)
        else:
            terms = (x - y) ** 2
            sizes = terms.sum(axis=1)
        sums = terms.sum(axis=1)
        error = 2 * (len(x) + 2) * 2.0**-53 * sizes + 1e-300
        upper = np.partition(sums + error, self._votes - 1)[self._votes - 1]
        close = np.flatnonzero(sums - error <= upper)
        if len(close) > self._votes:
            exact = [(math.fsum(terms[i].tolist()), i) for i in close.tolist()]
            close = np.array([i for _, i in sorted(exact)[: self._votes]])
        return inside[close]
