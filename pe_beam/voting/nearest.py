"""Finds the exact nearest candidates of a record, as DESIGN's privacy rule 8 defines them.

The nearest candidate has the smallest distance: the `math.fsum` of squared float64 differences of the float32 vectors
(inner product: the largest `math.fsum` of float64 products). Ties go to the smaller position, which has the smaller
candidate_id. Batches, tiles, threads, engines and machines change the time and never the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from pe_beam import registry
from pe_beam.contracts.search import Frame, Pairs, SearchEngine
from pe_beam.voting.decide import Decider, score_terms

DISTANCES = ("l2", "cosine", "inner_product")
DEFAULT_ENGINE = "blas"
_BLOCK = 1024  # queries at a time; with fewer, BLAS needs more time to pack the candidates
_TILE = 4096  # candidates at a time: block x tile float32 is 16 MB per thread, small enough for a cache


class NearestSearch(Protocol):
    """A search for the nearest candidates. Several threads may use it at once."""

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """Returns int64 (n, min(votes, m)) positions, ordered by (distance, position), for float32 (n, d) queries.

        Raises:
          ValueError: the queries have another shape, or are not finite.
        """


def flat_search(
    candidates: np.ndarray,
    *,
    distance: str,
    votes: int,
    search_engine: str = DEFAULT_ENGINE,
    block: int = _BLOCK,
    tile: int = _TILE,
) -> NearestSearch:
    """Returns an exhaustive, exact search.

    Args:
      candidates: float32 (m, d), m and d at least 1, ordered by candidate_id.
      distance: "l2", "cosine" (the rows must be normalised already: `normalise_rows`) or "inner_product".
      votes: number of nearest candidates, at least 1; all m if there are fewer candidates.
      search_engine: name of a registered search engine, which proposes candidates. The answer is the same with each.
      block: queries at a time.
      tile: candidates at a time. Block and tile bound memory: 4 * block * tile bytes per thread.

    Raises:
      ValueError: the candidates have another type or shape or are not finite, or the distance is unknown.
      RecipeError: there is no such engine.

    >>> points = np.array([[0, 0], [3, 4], [0, 0]], dtype=np.float32)
    >>> flat_search(points, distance="l2", votes=2).nearest(np.array([[1, 0], [3, 3]], dtype=np.float32))
    array([[0, 2],
           [1, 0]])
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance: {distance!r} is not one of {', '.join(DISTANCES)}")
    if min(votes, block, tile) < 1:
        raise ValueError(f"votes, block and tile must be 1 or more; got {votes}, {block}, {tile}")
    candidates = _checked(candidates, "candidates", None)
    if candidates.size == 0 or not np.isfinite(candidates).all():
        raise ValueError(f"candidates: every number must be finite, and shape {candidates.shape} not empty")
    product = distance == "inner_product"
    found: SearchEngine = find_engine(search_engine)
    return _FlatSearch(candidates, product=product, votes=votes, search_engine=found, block=block, tile=tile)


def find_engine(name: str) -> SearchEngine:
    """Returns a registered engine. Raises RecipeError if there is none, MissingExtraError if its package is missing."""
    found: SearchEngine = registry.find("search_engines", name, key="execution.search_engine")
    return found


class _FlatSearch:
    """The search of `flat_search`: an engine proposes distinct candidates, and `Decider` decides."""

    def __init__(
        self, candidates: np.ndarray, *, product: bool, votes: int, search_engine: SearchEngine, block: int, tile: int
    ) -> None:
        # Equal candidates are searched as one: otherwise their equal scores would be undecided for every record.
        distinct, members, starts = collapse(candidates)
        self._keep, self._block, self._dimension = min(votes, len(candidates)), block, candidates.shape[1]
        self._decider = Decider(distinct, members, starts, keep=self._keep, product=product)
        self._frame = Frame.of(distinct, product=product)
        self._columns = np.arange(len(distinct))
        wanted = min(votes, len(distinct))
        self._proposer = search_engine(self._frame, votes=wanted, tile=tile)

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """See `NearestSearch`."""
        queries = _checked(queries, "queries", self._dimension)
        answer = np.empty((len(queries), self._keep), dtype=np.int64)
        for start in range(0, len(queries), self._block):
            block = queries[start : start + self._block]
            placed, radii = self._frame.place(block)
            safe = self._frame.safe(radii)
            if safe.all():
                answer[start : start + len(block)] = self._proposed(block, placed, radii)
                continue
            if not np.isfinite(block[~safe]).all():
                raise ValueError("queries: every number must be finite")
            answer[start + np.flatnonzero(safe)] = self._proposed(block[safe], placed[safe], radii[safe])
            for row in np.flatnonzero(~safe):
                answer[start + row] = self._everything(block[row : row + 1])
        return answer

    def _proposed(self, queries: np.ndarray, placed: np.ndarray, radii: np.ndarray) -> np.ndarray:
        if len(queries) == 0:
            return np.empty((0, self._keep), dtype=np.int64)
        pairs = self._proposer.propose(placed, radii)
        if pairs is not None:
            return self._decider.best(queries, pairs)
        middle = len(queries) // 2
        halves = (slice(0, middle), slice(middle, None))
        return np.concatenate([self._proposed(queries[half], placed[half], radii[half]) for half in halves])

    def _everything(self, query: np.ndarray) -> np.ndarray:
        """Compares a query with every candidate in float64, because its numbers are too large for float32 products."""
        return self._decider.best(query, Pairs(np.zeros_like(self._columns), self._columns))


def reference_nearest(queries: np.ndarray, candidates: np.ndarray, *, distance: str, votes: int) -> np.ndarray:
    """Returns the nearest candidates by the definition, one `math.fsum` per pair. It is slow, and tests `flat_search`.

    Args and returns: as `flat_search(...).nearest(queries)`.
    """
    product = distance == "inner_product"
    keep = min(votes, len(candidates))
    answer = np.empty((len(queries), keep), dtype=np.int64)
    for row, query in enumerate(queries):
        terms = score_terms(np.broadcast_to(query, candidates.shape), candidates, product=product)
        scores = [math.fsum(of_candidate) for of_candidate in terms.tolist()]
        answer[row] = sorted(range(len(candidates)), key=lambda j, s=scores: (-s[j], j))[:keep]  # type: ignore[misc]
    return answer


def normalise_rows(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales rows to length 1, for cosine distance: x / sqrt(fsum(x^2)) in float64, rounded to float32.

    The bytes are the same on every machine because of `math.fsum` (the squares are exact).

    Args:
      vectors: float32 (n, d), finite.

    Returns:
      float32 (n, d), and bool (n,): True for rows that are zero. These stay zero, and the caller rejects them.

    Raises:
      ValueError: the vectors have another type or shape, or contain a number that is not finite.

    >>> normalise_rows(np.array([[3, 4], [0, 0]], dtype=np.float32))
    (array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32), array([False,  True]))
    """
    vectors = _checked(vectors, "vectors", None)
    if not np.isfinite(vectors).all():
        raise ValueError("vectors: every number must be finite")
    unit = np.empty(vectors.shape, dtype=np.float32)
    zero = (vectors == 0).all(axis=1)
    for part in _slices(len(vectors), 1024):
        wide = vectors[part].astype(np.float64)
        norms = np.array([math.sqrt(math.fsum(row)) for row in (wide * wide).tolist()])
        unit[part] = wide / np.where(zero[part], 1.0, norms)[:, None]
    return unit, zero


def collapse(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns distinct rows in the order of their first position, and the positions of each: members, starts.

    Args:
      candidates: float32 (m, d).

    Returns:
      float32 (u, d), and int64 (m,) and (u + 1,) as `Decider` takes them.
    """
    rows = np.ascontiguousarray(candidates + np.float32(0))  # -0.0 becomes 0.0: equal bytes for equal numbers
    as_bytes = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
    owner = first[inverse.ravel()]  # for each position the first position with the same vector
    members = np.argsort(owner, kind="stable")
    firsts = np.sort(first)
    return rows[firsts], members, np.append(np.searchsorted(owner[members], firsts), len(rows))


def _checked(vectors: np.ndarray, name: str, dimension: int | None) -> np.ndarray:
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != (dimension or vectors.shape[1]):
        wanted = f"(n, {dimension or 'd'})"
        raise ValueError(f"{name}: float32 {wanted} is needed; got {vectors.dtype} {vectors.shape}")
    return vectors


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))
