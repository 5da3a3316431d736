"""One vote a query: the best score, and whether another comes near it. Most queries have no other, and need no more.

Scores are upper bounds of s (`contracts.search`) in one of two forms. In both, a candidate that may win has a score of
at least v - A r (n + w) - 2 B n^2 - 2 C, where v is the best score, n its candidate's norm, and r the query's.

- With many candidates, norms go into the product: x' |-> (x', 1, r) and y' |-> (y', -|y'|^2/2 + B |y'|^2, A |y'|).
  Each candidate has its own bound, so w = n.
- With few, copying a query costs more than the product gains, so the product is x'.y', and -|y'|^2/2 + B |y'|^2 is
  added to the scores: one more term of the same float32 sum. A |x'||y'| is missing there, and at most A r w with
  w = max|y'|. So norms must be about equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pe_beam.contracts.search import USUAL_BLOCK, Frame, Pairs
from pe_beam.voting.scratch import Scratch
from pe_beam.voting.search.scan import rounded_down

_MOST_PAIRS = 1 << 21  # 32 MB of pairs; if there are more, the block is halved
_MOST_SCORES = 1 << 22  # of a block and a tile
_LARGEST_BLOCK, _COPIED = 8192, 4096  # queries as they are, and copied ones, which should stay in a cache
_FEW = 1.5  # candidates for each dimension up to which scores are added to
_ALIKE = 2.0  # times the median norm: so long the largest may be for that


class Single:
    """The proposer of one vote of engine `blas`.

    Args:
      frame: the candidates.
      a, b: A and B of `contracts.search`, for K = d + 2; B is 0 for inner products.
      tile: candidates at a time.

    Attributes:
      block: number of queries that it likes to be given at a time.
    """

    def __init__(self, frame: Frame, a: float, b: float, *, tile: int) -> None:
        count, dimension = frame.vectors.shape
        self._frame, self._a, self._b = frame, a, b
        self._width = -(-count // -(-count // tile))  # equal tiles
        self._scratch = Scratch()
        self._added = count <= _FEW * dimension and frame.largest <= _ALIKE * np.median(frame.norms)
        most = min(_LARGEST_BLOCK if self._added else _COPIED, _MOST_SCORES // self._width)
        self.block = max(USUAL_BLOCK, most)
        with np.errstate(over="ignore", invalid="ignore"):  # after an overflow no query is safe, and none comes
            self._terms = ((b - (0.0 if frame.product else 0.5)) * frame.norms**2).astype(np.float32)
            self._matrix = frame.vectors if self._added else self._with_columns()

    def _with_columns(self) -> np.ndarray:
        last = np.stack([self._terms, (self._a * self._frame.norms).astype(np.float32)], axis=1)
        return np.concatenate([self._frame.vectors, last], axis=1)

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        left = placed if self._added else self._widened(placed, radii)
        margin = 2 * self._frame.constant_error(radii)
        low = np.full(len(left), -np.inf)
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self._matrix), self._width):
            scores = self._scores(left, slice(start, start + self._width))
            columns, at, best = _best(scores)
            scores.reshape(-1)[at] = -np.inf  # so that the second best shows
            low = np.maximum(low, best - self._doubt(radii, self._frame.norms[columns + start]))
            floor = rounded_down(low - margin)
            for rows, reaching, values in self._reaching(scores, columns, best, floor):
                found.append((rows, reaching + start, values))
                if len(left) > 1 and sum(len(rows) for rows, _, _ in found) > _MOST_PAIRS:
                    return None
        if len(found) == 1:  # one tile, and one candidate for each query
            return Pairs(found[0][0], found[0][1])
        rows, reaching, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        if len(self._matrix) > self._width:  # earlier tiles have met a lower floor
            kept = np.flatnonzero(values >= floor[rows])
            rows, reaching = rows[kept], reaching[kept]
        order = np.argsort(rows, kind="stable")
        return Pairs(rows[order], reaching[order])

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

    def _doubt(self, radii: np.ndarray | float, norms: np.ndarray) -> np.ndarray:
        """Returns by how much less than the best score may still win, but for C: see the module's docstring."""
        widest = self._frame.largest if self._added else norms
        doubt: np.ndarray = self._a * radii * (norms + widest) + 2 * self._b * norms**2
        return doubt

    def _reaching(
        self, scores: np.ndarray, columns: np.ndarray, best: np.ndarray, floor: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields rows, columns and values of the scores that reach the floor of their row.

        First those of rows with one at most, then those of the others, if there are any. `best` is not in the scores.
        """
        near = np.flatnonzero(_best(scores)[2] >= floor)
        alone = best >= floor
        alone[near] = False
        if alone.all():
            yield np.arange(len(best)), columns, best
            return
        rows = np.flatnonzero(alone)
        yield rows, columns[rows], best[rows]
        step = max(1, len(scores) // 8)  # copies of rows, and not of all
        for start in range(0, len(near), step):
            some = near[start : start + step]
            values = scores[some]
            values[np.arange(len(some)), columns[some]] = best[some]
            row, column = np.nonzero(values >= floor[some, None])
            yield some[row], column, values[row, column]


def _best(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the column of each row's best score, where that is in the flat scores, and the score itself.

    NumPy's argmax reads twice as fast as its maximum of rows.
    """
    columns = scores.argmax(axis=1)
    at = columns + np.arange(0, scores.size, scores.shape[1])
    return columns, at, scores.reshape(-1).take(at)
