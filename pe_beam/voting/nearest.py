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
from pe_beam.contracts.search import SearchEngine
from pe_beam.voting.decide import score_terms
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.flat import COPIES, PartsSearch, WholeSearch

DISTANCES = ("l2", "cosine", "inner_product")
DEFAULT_ENGINE = "blas"
DEFAULT_MEMORY = 1 << 30
"""Bytes of candidates, in all forms, that a search holds."""
_LOOKED_AT = 1 << 20  # numbers
_SCALED = 1 << 15  # numbers at a time: they should stay in a cache
_TILE = 4096  # candidates at a time: block x tile float32 is 16 MB per thread, small enough for a cache


class NearestSearch(Protocol):
    """A search for the nearest candidates. Several threads may use it at once."""

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """Returns the nearest candidates of float32 (n, d) queries: int64 (n, min(votes, m)) positions, ascending.

        A search need not know which of them is nearer than another: each gets a vote.

        Raises:
          ValueError: the queries have another shape, or are not finite.
        """


def flat_search(
    candidates: np.ndarray,
    *,
    distance: str,
    votes: int,
    search_engine: str = DEFAULT_ENGINE,
    block: int | None = None,
    tile: int = _TILE,
    among: np.ndarray | None = None,
    memory: int = DEFAULT_MEMORY,
) -> NearestSearch:
    """Returns an exhaustive, exact search.

    Args:
      candidates: float32 (m, d), m and d at least 1, ordered by candidate_id.
      distance: "l2", "cosine" (the rows must be normalised already: `normalise_rows`) or "inner_product".
      votes: number of nearest candidates, at least 1; all m if there are fewer candidates.
      search_engine: name of a registered search engine, which proposes candidates. The answer is the same with each.
      block: queries at a time; None leaves it to the engine.
      tile: candidates at a time. Block and tile bound memory: 6 * block * tile bytes per thread.
      among: int64, ascending positions of the candidates that are searched; answers count among these. None: all.
      memory: bytes for what a search holds of the candidates. If five copies of them are more, each call to
        `nearest` walks through the candidates in parts; they are never copied whole, and may be memory-mapped.

    Raises:
      ValueError: the candidates have another type or shape or are not finite, or the distance is unknown.
      RecipeError: there is no such engine.

    >>> points = np.array([[0, 0], [3, 4], [0, 0]], dtype=np.float32)
    >>> flat_search(points, distance="l2", votes=2).nearest(np.array([[1, 0], [3, 3]], dtype=np.float32))
    array([[0, 2],
           [0, 1]])
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance: {distance!r} is not one of {', '.join(DISTANCES)}")
    if min(votes, tile, 1 if block is None else block) < 1:
        raise ValueError(f"votes, block and tile must be 1 or more; got {votes}, {block}, {tile}")
    candidates = _checked(candidates, "candidates", None)
    count = len(candidates) if among is None else len(among)
    if count == 0 or candidates.size == 0 or not all_finite(candidates, among):
        raise ValueError(f"candidates: every number must be finite, and shape {candidates.shape} not empty")
    product = distance == "inner_product"
    found: SearchEngine = find_engine(search_engine)
    distinct = Distinct(candidates, among)
    search: NearestSearch
    if COPIES * 4 * len(distinct) * candidates.shape[1] <= memory:
        search = WholeSearch(distinct, product=product, votes=votes, search_engine=found, block=block, tile=tile)
    else:
        search = PartsSearch(
            distinct, product=product, votes=votes, search_engine=found, block=block, tile=tile, memory=memory
        )
    return _Checked(search, candidates.shape[1])


class _Checked:
    """A search that refuses queries of another shape."""

    def __init__(self, search: NearestSearch, dimension: int) -> None:
        self.search, self._dimension = search, dimension

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """See `NearestSearch`."""
        return self.search.nearest(_checked(queries, "queries", self._dimension))


def all_finite(vectors: np.ndarray, among: np.ndarray | None = None) -> bool:
    """Returns whether every number of float32 (m, d) rows, or of those at some positions, is finite. Looks at a few
    rows at a time, because the rows may be memory-mapped."""
    step = max(1, _LOOKED_AT // max(1, vectors.shape[1]))
    count = len(vectors) if among is None else len(among)
    parts = _slices(count, step)
    return all(np.isfinite(vectors[part] if among is None else vectors[among[part]]).all() for part in parts)


def find_engine(name: str) -> SearchEngine:
    """Returns a registered engine. Raises RecipeError if there is none, MissingExtraError if its package is missing."""
    found: SearchEngine = registry.find("search_engines", name, key="execution.search_engine")
    return found


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
        nearest = sorted(range(len(candidates)), key=lambda j, s=scores: (-s[j], j))  # type: ignore[misc]
        answer[row] = sorted(nearest[:keep])
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
    zero = np.empty(len(vectors), dtype=np.bool_)
    for part in _slices(len(vectors), max(1, _SCALED // max(1, vectors.shape[1]))):
        unit[part], zero[part] = _scaled(vectors[part].astype(np.float64))
    return unit, zero


def _scaled(wide: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `normalise_rows` does, of float32 rows as float64.

    Nearly all numbers round to the same float32 whatever the order of the sum, and need no `math.fsum`. With n terms,
    none negative, a float64 sum in any order has a relative error of at most (n - 1) u (1 + O(nu)), u = 2^-53 (Higham
    2002, 4.2), its root half of that. The root, its inverse and the product here, and the fsum, the root and the
    quotient of the definition each round once. So both quotients differ by a factor of at most 1 + (n/2 + 7) u, and
    rounding to float32 is monotone.
    """
    squares = np.einsum("ij,ij->i", wide, wide)
    zero = squares == 0
    about = wide * (1 / np.sqrt(np.where(zero, 1.0, squares)))[:, None]
    doubt = (wide.shape[1] + 16) * 2.0**-53
    unit = (about * (1 - doubt)).astype(np.float32)
    unsure = np.flatnonzero((unit != (about * (1 + doubt)).astype(np.float32)).any(axis=1))
    rows = wide[unsure]
    norms = [math.sqrt(math.fsum(row)) for row in (rows * rows).tolist()]
    unit[unsure] = rows / np.array(norms)[:, None]
    return unit, zero


def _checked(vectors: np.ndarray, name: str, dimension: int | None) -> np.ndarray:
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != (dimension or vectors.shape[1]):
        wanted = f"(n, {dimension or 'd'})"
        raise ValueError(f"{name}: float32 {wanted} is needed; got {vectors.dtype} {vectors.shape}")
    return vectors


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))
