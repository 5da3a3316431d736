"""Engine `blas`: NumPy's matrix products, the best scores of each query, and whether another comes near them.

Most queries have no other, and need no more.

Scores are upper bounds of s (`contracts.search`) in one of two forms. In both, a candidate may win only if its score
is at least v - A r (n + w) - 2 B n^2 - 2 C for one of any k others, where v is that one's score, n its norm, and r the
query's norm.

- With many candidates, norms go into the product: x' |-> (x', 1, r) and y' |-> (y', -|y'|^2/2 + B |y'|^2, A |y'|).
  Each candidate has its own bound, so w = n.
- With few, copying a query costs more than the product gains, so the product is x'.y', and -|y'|^2/2 + B |y'|^2 is
  added to the scores: one more term of the same float32 sum. A |x'||y'| is missing there, and at most A r w with
  w = max|y'|. So norms must be about equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pe_beam.contracts.search import USUAL_BLOCK, Frame, Pairs, bounds
from pe_beam.voting.scratch import Scratch
from pe_beam.voting.search.scan import floor_of, raise_lows, taken

_MOST_PAIRS = 1 << 21  # 32 MB of pairs; if there are more, the block is halved
_MOST_SCORES = 1 << 22  # of a block and a tile
_LARGEST_BLOCK, _COPIED = 8192, 4096  # queries as they are, and copied ones, which should stay in a cache
_FEW = 1.5  # candidates for each dimension up to which scores are added to
_ALIKE = 2.0  # times the median norm: so long the largest may be for that


class BlasProposer:
    """Multiplies a block of queries by a tile of candidates, and looks for the best scores, one after the other.

    NumPy's argmax of rows reads so much faster than all else that could find them, that a pass for each vote is quick.

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for, k.
      tile: candidates at a time. Tile and block together bound memory.

    Attributes:
      block: number of queries that it likes to be given at a time.
    """

    one_thread = True
    """The scan is no BLAS, so one block would leave cores idle."""

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        count, dimension = frame.vectors.shape
        self._frame, self._votes = frame, votes
        self._a, self._b = bounds(dimension + 2, product=frame.product)
        self._width = -(-count // -(-count // tile))  # equal tiles
        self._scratch = Scratch()
        self._added = count <= _FEW * dimension and frame.largest <= _ALIKE * np.median(frame.norms)
        most = min(_LARGEST_BLOCK if self._added else _COPIED, _MOST_SCORES // self._width)
        self.block = max(USUAL_BLOCK, most)
        with np.errstate(over="ignore", invalid="ignore"):  # after an overflow no query is safe, and none comes
            self._terms = ((self._b - (0.0 if frame.product else 0.5)) * frame.norms**2).astype(np.float32)
            widest = frame.largest if self._added else frame.norms
            self._slopes, self._heights = self._a * (frame.norms + widest), 2 * self._b * frame.norms**2
            self._matrix = frame.vectors if self._added else self._with_columns()

    def _with_columns(self) -> np.ndarray:
        last = np.stack([self._terms, (self._a * self._frame.norms).astype(np.float32)], axis=1)
        return np.concatenate([self._frame.vectors, last], axis=1)

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        left = placed if self._added else self._widened(placed, radii)
        margin = 2 * self._frame.constant_error(radii)
        lows: np.ndarray | None = None
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self._matrix), self._width):
            scores = self._scores(left, slice(start, start + self._width))
            columns, best = taken(scores, self._votes)
            lower = best - self._doubt(radii, columns + start)
            lows = lower if lows is None else raise_lows(lows, lower)
            floor = floor_of(lows, margin)
            for rows, reaching, values in self._reaching(scores, columns, best, floor):
                found.append((rows, reaching + start, values))
                if len(left) > 1 and sum(len(rows) for rows, _, _ in found) > _MOST_PAIRS:
                    return None
        rows, reaching, values = found[0]
        if len(found) > 1:  # several tiles, or more candidates for a query than it wants
            rows, reaching, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
            order = np.argsort(rows, kind="stable")
            if len(self._matrix) > self._width:  # earlier tiles have met a lower floor
                order = order[(values >= floor[rows])[order]]
            rows, reaching, values = rows[order], reaching[order], values[order]
        if self._votes == 1:  # of two for one vote none is sure
            return Pairs(rows, reaching)
        widest = radii * self._slopes.max() + self._heights.max() + margin
        return Pairs(rows, reaching, values - widest[rows], values)

    def _widened(self, placed: np.ndarray, radii: np.ndarray) -> np.ndarray:
        left = self._scratch.array("queries", (len(placed), placed.shape[1] + 2), np.float32)
        left[:, :-2], left[:, -2], left[:, -1] = placed, 1, radii
        return left

    def _scores(self, left: np.ndarray, part: slice) -> np.ndarray:
        right = self._matrix[part]
        scores = self._scratch.array("scores", (len(left), len(right)), np.float32)
        np.matmul(left, right.T, out=scores)
        if self._added and not self._frame.product:
            np.add(scores, self._terms[part], out=scores)
        return scores

    def _doubt(self, radii: np.ndarray | float, columns: np.ndarray) -> np.ndarray:
        """Returns by how much less than the scores of these may still win, but for C: see the module's docstring."""
        doubt: np.ndarray = radii * self._slopes[columns] + self._heights[columns]
        return doubt

    def _reaching(
        self, scores: np.ndarray, columns: np.ndarray, best: np.ndarray, floor: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields rows, columns and values of the scores that reach the floor of their row.

        First those of rows where none does but the best, which were taken out, then those of the others, if any.
        """
        count, votes = len(scores), self._votes
        first = np.arange(0, scores.size, scores.shape[1])
        near = np.flatnonzero(scores.reshape(-1).take(first + scores.argmax(axis=1)) >= floor)
        reached = best >= floor
        reached[:, near] = False
        columns, best = columns.T.ravel(), best.T.ravel()
        if reached.all():
            yield np.repeat(np.arange(count), votes), columns, best
            return
        at = np.flatnonzero(reached.T)
        yield at // votes if votes > 1 else at, columns[at], best[at]
        step = max(1, count // 8)  # copies of rows, and not of all
        for start in range(0, len(near), step):
            some = near[start : start + step]
            values = scores[some]
            out = some[:, None] * votes + np.arange(votes)  # what was taken out
            values[np.arange(len(some))[:, None], columns[out]] = best[out]
            row, column = np.nonzero(values >= floor[some, None])
            yield some[row], column, values[row, column]
