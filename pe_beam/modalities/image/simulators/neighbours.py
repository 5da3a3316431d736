"""Exact nearest neighbours among some millions of vectors in files: the k nearest to some of these vectors.

Nearest is defined as in DESIGN, rule 8: by squares of float64 differences of the float32 vectors, summed as if by
`math.fsum`. Of equal distances the smaller row comes first. A float32 matrix product only selects candidate rows:

1. T is a guess of the k-th distance: a slightly higher rank among some ten thousand rows at even steps.
2. A scan selects all rows with a lower bound L of their distance that is at most T, rounding included. With x = (h, t)
   in an orthonormal basis, h the first m coordinates, L^2 = |h - h'|^2 + (|t| - |t'|)^2 <= |x - x'|^2
   (Cauchy-Schwarz). Principal components make the bound tight for a small m. m is chosen for each block of queries by
   its cost.
3. Of the selected rows those with the smallest L are computed first. The k-th of their distances is an upper bound of
   the k-th distance: rows whose L is larger are left out. The distances of the others are computed in float64. If k of
   them are within T, they contain the answer. If not, T was too small, and the query is repeated with a larger T.

The blocks, the sample and m do not change an answer.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from pe_beam.modalities.image.simulators.basis import Basis, levels_of

BLOCK = 1024
"""Queries of a block, 32,767 at most: with fewer, reading the rows costs more than the products."""
_TILE = 8192  # rows at a time: tile x block float32 is 32 MB for each thread
_SAMPLE = 32_768
_GUESSED = 128  # queries at a time against the sample: 16 MB
_FEW = 16_384  # up to so many rows are all computed in float64
_FIRST = 4
"""Times k: rows whose distances are computed first."""
_UNIT = 2.0**-24
_PAIR, _PRODUCT = 1e-9, 1.4e-11  # seconds per number of a pair and of a product, on two cores
_THREADS = 2  # blocks that are answered at the same time


class Neighbours:
    """Searches in one set. Only one thread may use it at a time.

    Args:
      vectors: float32 (n, d), usually mapped from a file; finite.
      basis: the basis of these vectors.
      heads: float32 (n, d / 2). tails: float32 (n, levels); both as `Basis.place` gives them.
    """

    def __init__(self, vectors: np.ndarray, basis: Basis, heads: np.ndarray, tails: np.ndarray) -> None:
        self._vectors, self._basis, self._heads, self._tails = vectors, basis, heads, tails
        self._levels = levels_of(vectors.shape[1])
        self._centre = basis.centre.astype(np.float32)
        self._samples: dict[int | None, np.ndarray] = {}
        self._sampling = threading.Lock()

    def nearest(self, rows: np.ndarray, keep: int, members: np.ndarray | None = None) -> list[np.ndarray]:
        """Returns for each row the row itself and the nearest other members.

        Args:
          rows: int64 (q,), each one a member.
          keep: how many to return, 1 or more; fewer are returned if there are fewer members.
          members: int64, ascending: the rows among which to search; None: all.

        Returns:
          q arrays, int64 (min(keep, members),). The row itself is first; the others are in order of (distance, row).
        """
        count = len(self._vectors) if members is None else len(members)
        keep = min(keep, count)
        if keep == 1:
            return [np.array([row]) for row in rows]
        found: list[np.ndarray | None] = [None] * len(rows)
        waiting = np.arange(len(rows))
        rank = 1.0
        # A thread takes whole blocks, with one thread of BLAS: no step of a block waits for another core.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(_THREADS) as threads:
            while len(waiting):
                guess = rank if count > _FEW and rank < 64 else None
                blocks = np.array_split(waiting, _blocks(len(waiting)))
                asked = functools.partial(self._block, keep=keep, members=members, rank=guess)
                for block, answers in zip(blocks, threads.map(asked, (rows[each] for each in blocks)), strict=True):
                    for place, answer in zip(block, answers, strict=True):
                        found[place] = answer
                waiting = np.array([place for place in waiting if found[place] is None], dtype=np.int64)
                rank *= 4  # T was too small for these
        return [each for each in found if each is not None]

    def _block(
        self, rows: np.ndarray, *, keep: int, members: np.ndarray | None, rank: float | None
    ) -> list[np.ndarray | None]:
        """Answers the queries of a block; None: T was too small for a query. Without a rank, compares all members."""
        queries = np.asarray(self._vectors[rows])
        if rank is None:
            everything = np.arange(len(self._vectors)) if members is None else members
            unbounded = everything, np.zeros(len(everything))
            pairs, limits = [unbounded] * len(rows), np.full(len(rows), math.inf)
        else:
            limits, level = self._guess(queries, keep, members, rank)
            pairs = self._scan(queries, limits, level, members)
        return [self._decide(row, queries[i], pairs[i], keep, float(limits[i])) for i, row in enumerate(rows)]

    def _guess(
        self, queries: np.ndarray, keep: int, members: np.ndarray | None, rank: float
    ) -> tuple[np.ndarray, int | None]:
        """Returns squares of T, float64 (q,), and the index of the level that is cheapest to scan; None: no level."""
        count = len(self._vectors) if members is None else len(members)
        sample = np.arange(0, count, -(-count // _SAMPLE))
        chosen = sample if members is None else members[sample]
        wanted = rank * len(chosen) / count * keep
        place = min(math.ceil(wanted + 3 * math.sqrt(wanted) + 3), len(chosen) - 1)  # too small once in 100,000 times
        own = self._sampled(chosen, members, None)
        limits = np.empty(len(queries))
        for start in range(0, len(queries), _GUESSED):
            squares = self._bounds(queries[start : start + _GUESSED], own, None)
            squares.partition(place, axis=1)
            limits[start : start + _GUESSED] = squares[:, place]
        some = slice(0, 32)
        squares = self._bounds(queries[some], own, None)
        dimension = self._vectors.shape[1]
        costs: dict[int | None, float] = {None: dimension * _PRODUCT}
        costs[None] += float((squares <= limits[some, None]).mean()) * dimension * _PAIR
        for level, length in enumerate(self._levels):
            heads = self._sampled(chosen, members, level)
            below = self._bounds(queries[some], heads, level) <= limits[some, None]
            costs[level] = length * _PRODUCT + float(below.mean()) * dimension * _PAIR
        return limits, min(costs, key=lambda key: costs[key])

    def _sampled(self, chosen: np.ndarray, members: np.ndarray | None, level: int | None) -> np.ndarray:
        """Returns the sample in the form for the product. Keeps the sample of the whole set."""
        if members is not None:
            return self._tile(chosen, level)
        with self._sampling:
            if level not in self._samples:
                self._samples[level] = self._tile(chosen, level)
            return self._samples[level]

    def _bounds(self, queries: np.ndarray, right: np.ndarray, level: int | None) -> np.ndarray:
        """Returns squares of L, float32 (q, rows), without a correction for rounding."""
        left = self._sides(queries, level)
        scores: np.ndarray = left @ right.T
        scores *= -2
        scores += (left[:, :-1] ** 2).sum(axis=1)[:, None]
        return scores

    def _sides(self, queries: np.ndarray, level: int | None) -> np.ndarray:
        """Returns queries in the form for the product: coordinates, norm of the rest, 1."""
        if level is None:
            return np.column_stack([queries - self._centre, np.ones(len(queries), np.float32)])
        heads, tails = self._basis.place(queries)
        length = self._levels[level]
        return np.column_stack([heads[:, :length], tails[:, level], np.ones(len(queries), np.float32)])

    def _tile(self, rows: np.ndarray | slice, level: int | None) -> np.ndarray:
        """Returns rows in the form for the product: coordinates, norm of the rest, minus half the square of these."""
        if level is None:
            own = np.asarray(self._vectors[rows]) - self._centre
            return np.column_stack([own, -0.5 * np.einsum("ij,ij->i", own, own)])
        head = np.asarray(self._heads[rows, : self._levels[level]])
        tail = np.asarray(self._tails[rows, level])
        half = -0.5 * (np.einsum("ij,ij->i", head, head) + tail * tail)
        return np.column_stack([head, tail, half])

    def _scan(
        self, queries: np.ndarray, limits: np.ndarray, level: int | None, members: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns for each query all rows whose lower bound is within its limit, and squares of these bounds, float64.

        The error of s = q.x - |x|^2 / 2 is less than (2K + 16) u (|q| + |x|)^2 for a product of length K and vectors
        that were rounded once (`contracts.search` has the steps). So no row within the limit is missed.
        """
        left = self._sides(queries, level)
        radii = np.sqrt((left[:, :-1].astype(np.float64) ** 2).sum(axis=1))
        floor = (radii**2 - limits) / 2
        loss = (2 * left.shape[1] + 16) * _UNIT
        right = np.ascontiguousarray(left.T)
        buffer = np.empty((_TILE, len(left)), np.float32)

        def look(start: int, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            """Returns of one tile the places of rows, their queries, and squares of bounds."""
            tile = self._tile(rows, level)
            scores = np.matmul(tile, right, out=buffer[: len(tile)])
            farthest = math.sqrt(max(0.0, -2 * float(tile[:, -1].min())))
            error = loss * (radii + farthest) ** 2
            lowest = np.nextafter((floor - error).astype(np.float32), np.float32(-np.inf))
            flat = np.flatnonzero(scores >= lowest)
            owner = (flat % len(left)).astype(np.int16)  # NumPy sorts 16 bits by radix
            bounds = (radii**2 - 2 * error)[owner] - 2 * scores.ravel()[flat].astype(np.float64)
            return flat // len(left) + start, owner, bounds

        found = [look(*tile) for tile in self._tiles(members)]
        places, owners, bounds = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(owners, kind="stable")
        cuts = np.searchsorted(owners[order], np.arange(1, len(left), dtype=np.int16))
        every = places[order] if members is None else members[places[order]]
        return list(zip(np.split(every, cuts), np.split(bounds[order], cuts), strict=True))

    def _tiles(self, members: np.ndarray | None) -> Iterator[tuple[int, np.ndarray | slice]]:
        count = len(self._vectors) if members is None else len(members)
        for start in range(0, count, _TILE):
            stop = min(start + _TILE, count)
            yield start, slice(start, stop) if members is None else members[start:stop]

    def _decide(
        self, row: int, query: np.ndarray, selected: tuple[np.ndarray, np.ndarray], keep: int, limit: float
    ) -> np.ndarray | None:
        """Returns the row itself and the nearest others; None: too few are certain to be within the limit.

        `selected`: rows, and squares of their lower bounds.
        """
        others = selected[0] != row
        rows, bounds = selected[0][others], selected[1][others]
        error = (2 * len(query) + 16) * _UNIT  # of a float32 square, relative
        keep -= 1
        if keep > len(rows):
            return None
        if len(rows) > 2 * _FIRST * keep and math.isfinite(limit):
            first = rows[np.argpartition(bounds, _FIRST * keep)[: _FIRST * keep]]
            certain = float(np.partition(self._squares(query, first), keep - 1)[keep - 1]) * (1 + 2 * error)
            rows = rows[bounds <= certain]
        squares = self._squares(query, rows)
        least = float(np.partition(squares, keep - 1)[keep - 1])
        if least * (1 + 2 * error) > limit:
            return None
        rows = rows[squares <= least * (1 + 4 * error) + 1e-30]
        exact = np.concatenate([
            self._differences(query, rows[start : start + _TILE]).sum(axis=1) for start in range(0, len(rows), _TILE)
        ])  # fmt: skip
        return np.concatenate([[row], rows[self._ordered(query, rows, exact, keep)]])

    def _squares(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns squares of distances, float32 (rows,)."""
        squares = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _TILE):
            gaps = np.take(self._vectors, rows[start : start + _TILE], axis=0)
            gaps -= query
            np.einsum("ij,ij->i", gaps, gaps, out=squares[start : start + _TILE])
        return squares

    def _differences(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        gaps = np.asarray(self._vectors[rows]).astype(np.float64)
        gaps -= query
        gaps *= gaps
        return gaps

    def _ordered(self, query: np.ndarray, rows: np.ndarray, squares: np.ndarray, keep: int) -> np.ndarray:
        """Returns positions of the first `keep` by (distance, row). Sums that rounding may have swapped are exact."""
        order = np.lexsort((rows, squares))
        values = squares[order]
        apart = np.flatnonzero(values[1:] - values[:-1] > 1e-12 * values[1:]) + 1
        for start, stop in zip([0, *apart], [*apart, len(order)], strict=True):
            if start >= keep:
                break
            if stop - start > 1 and values[stop - 1] > 0:
                group = order[start:stop]
                exact = np.array([math.fsum(terms) for terms in self._differences(query, rows[group]).tolist()])
                order[start:stop] = group[np.lexsort((rows[group], exact))]
        return order[:keep]


def _blocks(queries: int) -> int:
    """Returns the number of blocks: full ones, or a few more so that no thread is without one at the end.

    >>> [_blocks(n) for n in (1, 2, 1024, 10_000)]
    [1, 2, 2, 10]
    """
    return min(_THREADS * -(-queries // (_THREADS * BLOCK)), queries)
