"""Decides exactly which candidates are nearest: by float64 with a proven bound, and by `math.fsum` if that is unclear.

The *score* of a nearer candidate is larger: it is minus the squared distance, or the inner product. DESIGN,
privacy rule 8 defines it as the `math.fsum` of float64 terms, so that no machine or batch size changes it.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from pe_beam.contracts.search import Pairs

_CHUNK = 1 << 16  # float64 terms evaluated at once: 512 kB, which fits into a core's cache
_GRID_BITS = 24


def score_terms(queries: np.ndarray, candidates: np.ndarray, *, product: bool) -> np.ndarray:
    """Returns the float64 terms whose `math.fsum` is the score (DESIGN, privacy rule 8).

    Args:
      queries: float32 (p, d).
      candidates: float32, of the same shape or a shape that broadcasts to it.
      product: whether terms are products (they are exact: 24 + 24 bits) instead of minus the squared differences.

    Returns:
      float64 (p, d).
    """
    left, right = queries.astype(np.float64), candidates.astype(np.float64)
    if product:
        terms: np.ndarray = np.multiply(left, right, out=left)
        return terms
    np.subtract(left, right, out=left)
    np.multiply(left, left, out=left)
    return np.negative(left, out=left)


class Rows(Protocol):
    """Candidates: an array, or rows of a larger one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(u, d)."""

    def __getitem__(self, columns: np.ndarray, /) -> np.ndarray:
        """Returns float32 (p, d) for int64 (p,) columns."""


class Decider:
    """Orders proposed pairs by (score, position), exactly.

    Args:
      candidates: float32 (u, d), distinct rows; whatever gives rows for int64 columns will do.
      members: int64 (m,), the positions in the full list, grouped by distinct row, ascending in each group.
      starts: int64 (u + 1,), the start of each group in `members`.
      keep: number of positions that are returned for a query, at most m.
      product: whether scores are inner products.
    """

    def __init__(self, candidates: Rows, members: np.ndarray, starts: np.ndarray, *, keep: int, product: bool) -> None:
        self._candidates, self._members, self._starts = candidates, members, starts
        self._keep, self._product = keep, product
        self._repeated = np.diff(starts) > 1 if len(members) > len(starts) - 1 else None
        # |float64 sum in any order - fsum| <= (d - 1 + 1) u sum|t| (1 + O(du)), u = 2^-53 (Higham 2002, 4.2 and
        # (3.4)). Fused multiply-adds leave a term unrounded, which moves the sum by u sum|t|. 1.05 and d + 5 cover
        # that, the O(du), the rounding of sum|t| itself, and that of the comparisons below.
        self._relative = 1.05 * (candidates.shape[1] + 5) * 2.0**-53

    def best(self, queries: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Returns the `keep` nearest candidates of each query.

        Args:
          queries: float32 (n, d).
          pairs: proposed pairs: at least min(keep, u) for each query, with all winners among them.

        Returns:
          int64 (n, keep) positions in the full list, ascending. Of candidates at the same distance, those at smaller
          positions win.
        """
        answer = np.empty((len(queries), self._keep), dtype=np.int64)
        left = self._settle(answer, pairs)
        if len(left):
            self._score(answer, queries, pairs.part(left))
        if self._keep > 1:
            answer.sort(axis=1)
        return answer

    def _settle(self, answer: np.ndarray, pairs: Pairs) -> np.ndarray:
        """Answers the queries that have no more positions than they may keep. Most have not, and need no score.

        Returns the indexes of the other queries' pairs, int64.
        """
        if len(pairs.rows) == answer.size and (self._keep == 1 or self._repeated is None):  # no query has more
            answer[...] = self._members[self._starts[pairs.columns]].reshape(answer.shape)
            return np.empty(0, dtype=np.int64)
        starts, counts = _segments(pairs.rows)
        several = counts != self._keep
        if self._keep > 1 and self._repeated is not None:
            several |= np.logical_or.reduceat(self._repeated[pairs.columns], starts)
        first = pairs.columns.take(starts[:, None] + np.arange(self._keep), mode="clip")
        answer[...] = self._members[self._starts[first]]  # `several` are answered again
        several = np.flatnonzero(several)
        return _ranges(starts[several], counts[several])

    def _score(self, answer: np.ndarray, queries: np.ndarray, pairs: Pairs) -> None:
        """Answers the queries of the pairs: by the engine's bounds, by those of float64, and exactly at last.

        Each step leaves fewer queries and pairs, and those that are sure to win cost the next one nothing.
        """
        sure = np.zeros(len(pairs.rows), dtype=bool)
        if self._keep == 1:
            scores, errors = self.bounds(queries, pairs)
            pairs = self._largest(answer, Pairs(pairs.rows, pairs.columns, scores - errors, scores + errors))
            sure = sure[: len(pairs.rows)]
        elif pairs.low is not None:
            pairs, sure = self._narrow(answer, pairs, sure)
        if self._keep > 1 and len(pairs.rows):
            scores, errors = self.bounds(queries, pairs.part(~sure))
            pairs = Pairs(pairs.rows, pairs.columns, _filled(sure, scores - errors), _filled(sure, scores + errors))
            pairs, sure = self._narrow(answer, pairs, sure)
        if len(pairs.rows):
            exact = self._exact(queries, pairs.rows[~sure], pairs.columns[~sure])
            self._expand(answer, pairs.rows, pairs.columns, _filled(sure, exact))

    def _largest(self, answer: np.ndarray, pairs: Pairs) -> Pairs:
        """As `_narrow` for one vote: what is proposed for it is in doubt, and never sure beside another."""
        assert pairs.low is not None and pairs.high is not None
        starts, counts = _segments(pairs.rows)
        pairs = pairs.part(pairs.high >= np.repeat(np.maximum.reduceat(pairs.low, starts), counts))
        starts, counts = _segments(pairs.rows)
        answer[pairs.rows[starts], 0] = self._members[self._starts[pairs.columns[starts]]]
        return pairs.part(np.repeat(counts > 1, counts))  # these are answered again

    def _narrow(self, answer: np.ndarray, pairs: Pairs, sure: np.ndarray) -> tuple[Pairs, np.ndarray]:
        """Leaves out what cannot win, and answers the queries for whom that is enough.

        Returns the other queries' pairs, and bool (p,), which of them win whatever their exact scores are.
        """
        assert pairs.low is not None and pairs.high is not None
        order = np.lexsort((-pairs.high, pairs.rows))
        pairs, sure, sizes = pairs.part(order), sure[order], self._sizes(pairs.columns[order])
        assert pairs.low is not None and pairs.high is not None
        starts, counts = _segments(pairs.rows)
        places = np.cumsum(sizes)  # that a pair and those above it take
        places -= np.repeat(places[starts] - sizes[starts], counts)
        # The first that take all places have the floor in common; who is below it cannot win.
        floor = np.minimum.reduceat(np.where(places - sizes < self._keep, pairs.low, np.inf), starts)
        kept = pairs.high >= np.repeat(floor, counts)
        done = np.add.reduceat(sizes * kept, starts) == self._keep
        # Who is above the first for whom there is no place has a place, and so has all that may be as good.
        beyond = np.maximum.reduceat(np.where(places > self._keep, pairs.high, -np.inf), starts)
        sure |= pairs.low > np.repeat(beyond, counts)
        # If all that are left are sure but one, that is the last, and gets the places that are left.
        done |= np.add.reduceat((kept & ~sure).astype(np.int64), starts) == 1
        won = kept & np.repeat(done, counts)
        sizes = np.minimum(sizes, self._keep - (places - sizes))[won]
        position = self._members[_ranges(self._starts[pairs.columns[won]], sizes)]
        answer[pairs.rows[starts[done]]] = position.reshape(-1, self._keep)
        left = kept & ~won
        return pairs.part(left), sure[left]

    def bounds(
        self, queries: np.ndarray, pairs: Pairs, candidates: Rows | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores in float64 and the bound on their difference from `math.fsum`, float64 (p,) each.

        Args:
          queries: float32 (n, d).
          pairs: their columns are positions in `candidates`.
          candidates: float32 (c, d); None: those of the decider.
        """
        scores, sizes = np.empty(len(pairs.rows)), np.empty(len(pairs.rows))
        for part in _chunks(len(pairs.rows), queries.shape[1]):
            rows = (self._candidates if candidates is None else candidates)[pairs.columns[part]]
            scores[part], sizes[part] = _sums(queries[pairs.rows[part]], rows, product=self._product)
        return scores, self._relative * sizes

    def _exact(self, queries: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Returns the `math.fsum` of each pair, float64 (p,)."""
        scores = np.empty(len(rows))
        for part in _chunks(len(rows), queries.shape[1]):
            terms = self._terms(queries, rows[part], columns[part])
            scores[part] = terms.sum(axis=1)
            # Sums of multiples of 2^-24 below 2^29 are exact in every order, so they equal the fsum. Whole pixels,
            # which have many exact ties, therefore skip the slow loop.
            scaled = np.ldexp(terms, _GRID_BITS)
            exact = (np.abs(terms).sum(axis=1) < 2.0 ** (53 - _GRID_BITS)) & (scaled == np.rint(scaled)).all(axis=1)
            slow = np.flatnonzero(~exact)
            scores[part][slow] = [math.fsum(row) for row in terms[slow].tolist()]
        return scores

    def _terms(self, queries: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return score_terms(queries[rows], self._candidates[columns], product=self._product)

    def _sizes(self, columns: np.ndarray) -> np.ndarray:
        """Returns how many positions of each distinct candidate may be kept."""
        sizes: np.ndarray = np.minimum(self._starts[columns + 1] - self._starts[columns], self._keep)
        return sizes

    def _expand(self, answer: np.ndarray, rows: np.ndarray, columns: np.ndarray, scores: np.ndarray) -> None:
        """Answers the queries that occur, by exact scores, which stand for all positions of a candidate."""
        sizes = self._sizes(columns)
        position = self._members[_ranges(self._starts[columns], sizes)]
        rows, scores = np.repeat(rows, sizes), np.repeat(scores, sizes)
        order = np.lexsort((position, -scores, rows))
        starts, _ = _segments(rows)
        answer[rows[starts]] = position[order[starts[:, None] + np.arange(self._keep)]]


def _sums(queries: np.ndarray, candidates: np.ndarray, *, product: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of the terms of `score_terms`, and of their sizes, in float64, float64 (p,) each."""
    if product:
        terms = score_terms(queries, candidates, product=True)
        return terms.sum(axis=1), np.abs(terms, out=terms).sum(axis=1)
    apart = queries.astype(np.float64)
    apart -= candidates
    squares = np.matmul(apart[:, None, :], apart[:, :, None]).reshape(len(apart))  # a product of each row with itself
    return -squares, squares


def _segments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for ascending rows, where each distinct row starts, and how often it occurs."""
    new = np.ones(len(rows), dtype=bool)
    np.not_equal(rows[1:], rows[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    counts = np.empty_like(starts)
    counts[-1:] = len(rows)
    counts[:-1] = starts[1:]
    counts -= starts
    return starts, counts


def _filled(sure: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns float64 numbers for all pairs: the values of those that are not sure, and infinity."""
    filled = np.full(len(sure), np.inf)
    filled[~sure] = values
    return filled


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns start, start + 1, ... for each start, so many as its count."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + np.repeat(starts - ends + counts, counts)


def _chunks(length: int, dimension: int) -> list[slice]:
    step = max(1, _CHUNK // dimension)
    return [slice(start, start + step) for start in range(0, length, step)]
