"""Searches through all candidates: at once, or in parts of a matrix that is larger than the memory for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from pe_beam.contracts.search import USUAL_BLOCK, Frame, Pairs, SearchEngine, block_of, one_thread_of
from pe_beam.voting.decide import Decider
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.scratch import Scratch
from pe_beam.voting.threads import allowed_threads, side_by_side, within_limit

COPIES = 5
"""What an engine holds at most, in candidate matrices: its part, its frame, its own form, a fallback's, scratch."""
_LEAST_BLOCK = 256  # queries of a block that is made smaller so that each thread has one
_SCORE = 6  # bytes of scratch for each score of a block and a tile


class Part:
    """Some distinct candidates, and the engine's proposer among them.

    Attributes:
      block: number of queries that the engine likes to be given at a time.
      one_thread: whether the engine likes several blocks side by side, with one thread each.
    """

    def __init__(
        self, candidates: np.ndarray, *, product: bool, votes: int, search_engine: SearchEngine, tile: int
    ) -> None:
        self._frame = Frame.of(candidates, product=product)
        self._columns = np.arange(len(candidates))
        self._scratch = Scratch()
        self._proposer = search_engine(self._frame, votes=min(votes, len(candidates)), tile=tile)
        self.block = block_of(self._proposer)
        self.one_thread = one_thread_of(self._proposer)

    def proposals(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, Pairs]]:
        """Yields indexes of some queries, int64 (q,), and the pairs that may win for them; each query once.

        Raises ValueError if a number is not finite.
        """
        out = self._scratch.array("placed", queries.shape, np.float32) if self._frame.moves else None
        placed, radii = self._frame.place(queries, out)
        safe = self._frame.safe(radii)
        if safe.all():
            yield from self._proposed(np.arange(len(queries)), placed, radii)
            return
        if not np.isfinite(queries[~safe]).all():
            raise ValueError("queries: every number must be finite")
        yield from self._proposed(np.flatnonzero(safe), placed, radii)
        for row in np.flatnonzero(~safe):  # too large for float32 products: float64 compares it with every candidate
            yield np.array([row]), Pairs(np.zeros_like(self._columns), self._columns)

    def _proposed(
        self, indexes: np.ndarray, placed: np.ndarray, radii: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Pairs]]:
        if len(indexes) == 0:
            return
        whole = len(indexes) == len(placed)
        pairs = self._proposer.propose(placed if whole else placed[indexes], radii if whole else radii[indexes])
        if pairs is not None:
            yield indexes, pairs
            return
        middle = len(indexes) // 2
        yield from self._proposed(indexes[:middle], placed, radii)
        yield from self._proposed(indexes[middle:], placed, radii)


class WholeSearch:
    """Holds all candidates in the form that the engine wants. Several threads may use it at once."""

    def __init__(
        self,
        distinct: Distinct,
        *,
        product: bool,
        votes: int,
        search_engine: SearchEngine,
        block: int | None,
        tile: int,
    ) -> None:
        self._keep = min(votes, len(distinct.members))
        rows = distinct.part(0, len(distinct))
        self._decider = Decider(rows, distinct.members, distinct.starts, keep=self._keep, product=product)
        self._part = Part(rows, product=product, votes=votes, search_engine=search_engine, tile=tile)
        self._block = block or self._part.block

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """Returns int64 (n, keep) positions for float32 (n, d) queries. Raises ValueError if one is not finite."""
        answer = np.empty((len(queries), self._keep), dtype=np.int64)

        def work(part: slice) -> None:
            block = queries[part]
            for indexes, pairs in self._part.proposals(block):
                if len(indexes) == len(block):
                    answer[part] = self._decider.best(block, pairs)
                else:
                    answer[part.start + indexes] = self._decider.best(block[indexes], pairs)

        step = self._block
        if self._part.one_thread:
            step = min(step, max(_LEAST_BLOCK, -(-len(queries) // allowed_threads())))
        parts = [slice(start, start + step) for start in range(0, len(queries), step)]
        if self._part.one_thread:
            side_by_side(work, parts)
        else:
            with within_limit():
                for each in parts:
                    work(each)
        return answer


class PartsSearch:
    """Walks through candidates part by part, for all queries of a call, and keeps what may win by float64 bounds.

    Every part passes on all candidates within the bound, and one decision is made over all of them (rule 10). A thread
    at a time walks, so that memory is bounded.

    Args:
      distinct: the candidates.
      product, votes, search_engine, block, tile: as in `flat_search`.
      memory: bytes. Half is for a part and what an engine makes of it, a quarter for the scores of a block. Scratch
        of the decision (some 6 MB) and positions (some 60 bytes a candidate) come on top.
    """

    def __init__(
        self,
        distinct: Distinct,
        *,
        product: bool,
        votes: int,
        search_engine: SearchEngine,
        block: int | None,
        tile: int,
        memory: int,
    ) -> None:
        self._distinct, self._product, self._votes, self._engine = distinct, product, votes, search_engine
        self._keep = min(votes, len(distinct.members))
        self._decider = Decider(distinct, distinct.members, distinct.starts, keep=self._keep, product=product)
        scores = max(1, memory // (4 * _SCORE))
        self._block = max(1, min(block or USUAL_BLOCK, int(scores**0.5)))
        self._tile = max(8, min(tile, scores // self._block))
        wanted = max(1, memory // (2 * COPIES * 4 * distinct.shape[1]))
        self._step = -(-len(distinct) // -(-len(distinct) // wanted))  # equal parts
        self._lock = threading.Lock()

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """See `WholeSearch`."""
        blocks = range(0, len(queries), self._block)
        kept = [_Intervals.none() for _ in blocks]
        with self._lock, within_limit():
            for start in range(0, len(self._distinct), self._step):
                rows = self._distinct.part(start, min(start + self._step, len(self._distinct)))
                part = Part(rows, product=self._product, votes=self._votes, search_engine=self._engine, tile=self._tile)
                for which, first in enumerate(blocks):
                    block = queries[first : first + self._block]
                    for indexes, pairs in part.proposals(block):
                        scores, errors = self._decider.bounds(block[indexes], pairs, rows)
                        more = _Intervals(indexes[pairs.rows], pairs.columns + start, scores - errors, scores + errors)
                        kept[which] = kept[which].joined(more, self._votes)
                del part  # before the next one is made
        answer = np.empty((len(queries), self._keep), dtype=np.int64)
        for which, first in enumerate(blocks):
            block = queries[first : first + self._block]
            order = np.argsort(kept[which].rows, kind="stable")
            pairs = Pairs(kept[which].rows[order], kept[which].columns[order])
            answer[first : first + self._block] = self._decider.best(block, pairs)
        return answer


class _Intervals:
    """Pairs with the bounds on their scores."""

    def __init__(self, rows: np.ndarray, columns: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.rows, self.columns, self.low, self.high = rows, columns, low, high

    @classmethod
    def none(cls) -> _Intervals:
        return cls(*(np.empty(0, dtype=np.int64) for _ in range(2)), *(np.empty(0) for _ in range(2)))

    def joined(self, other: _Intervals, votes: int) -> _Intervals:
        """Returns the pairs of both that may still be among the `votes` best of their query."""
        mine, new = (self.rows, self.columns, self.low, self.high), (other.rows, other.columns, other.low, other.high)
        rows, columns, low, high = (np.concatenate(both) for both in zip(mine, new, strict=True))
        order = np.lexsort((-low, rows))
        rows, columns, low, high = (array[order] for array in (rows, columns, low, high))
        first = np.append(True, rows[1:] != rows[:-1]) if len(rows) else np.empty(0, dtype=bool)
        starts, row_of = np.flatnonzero(first), np.cumsum(first) - 1
        last = starts + votes - 1
        there = last < np.append(starts[1:], len(rows))
        floor = np.where(there, low[np.where(there, last, 0)], -np.inf) if len(rows) else low
        kept = high >= floor[row_of]
        return _Intervals(rows[kept], columns[kept], low[kept], high[kept])
