"""Scans a matrix of scores for what may win, in little more than one pass.

Columns c, c + w, c + 2w, ... c + 7w of a tile of 8w columns are folded into their maximum. What follows looks at an
eighth of the numbers: the best columns of a row, and the columns that reach a floor. Where one best column is wanted it
is quicker not to fold: NumPy's argmax and comparison read faster than its maximum writes.
"""

from __future__ import annotations

import numpy as np

from pe_beam.voting.scratch import Scratch

FOLD = 8
"""A tile's width is a multiple of this."""
_ABOVE_LOWEST = np.nextafter(np.finfo(np.float32).min, np.float32(0))


def widths(count: int, tile: int) -> tuple[int, int]:
    """Returns the width of equal tiles, about `tile` and a multiple of FOLD, and their number.

    >>> widths(10_000, 4096)
    (3336, 3)
    """
    wanted = -(-count // tile)
    width = -(-count // (wanted * FOLD)) * FOLD
    return width, -(-count // width)


class Scan:
    """Scratch arrays for scores, one set for each thread. New arrays for every block would cost as much as the scan.

    Args:
      probes: columns that `probe` looks for in a tile.
    """

    def __init__(self, probes: int) -> None:
        self._probes, self._scratch = probes, Scratch()

    def scratch(self, rows: int, columns: int) -> np.ndarray:
        """Returns a float32 array for the queries of a block. What is in it lasts until the thread's next call."""
        return self._scratch.array("queries", (rows, columns), np.float32)

    def multiply(self, left: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the products of float32 (n, k) and (FOLD * w, k) rows, (n, FOLD * w), and their folds.

        The folds are (n, w).
        """
        rows, width = len(left), len(part) // FOLD
        scores = self._scratch.array("scores", (rows, len(part)), np.float32)
        np.matmul(left, part.T, out=scores)
        folds = self._scratch.array("folds", (rows, FOLD // 2 * width), np.float32)
        np.maximum(scores[:, : 4 * width], scores[:, 4 * width :], out=folds)
        np.maximum(folds[:, : 2 * width], folds[:, 2 * width :], out=folds[:, : 2 * width])
        np.maximum(folds[:, :width], folds[:, width : 2 * width], out=folds[:, :width])
        return scores, folds[:, :width]

    def probe(self, scores: np.ndarray, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns columns with large scores and these scores: (p, n) each, p columns of each row.

        They are distinct, but for those whose score is -inf, where there are fewer folds.
        """
        rows, width = folds.shape
        at, best = taken(folds.copy(), self._probes)
        eight = scores.reshape(rows, FOLD, width)[np.arange(rows), :, at]
        return at + eight.argmax(axis=2) * width, best

    def reach(
        self, scores: np.ndarray, folds: np.ndarray, floor: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows, columns and values of the scores that reach the floor of their row, by row."""
        width = folds.shape[1]
        mask = np.greater_equal(folds, floor[:, None], out=self._scratch.array("mask", folds.shape, np.bool_))
        at = np.flatnonzero(mask)  # few, so what follows is cheap
        row = at // width
        where = at[:, None] + (row * ((FOLD - 1) * width))[:, None] + np.arange(FOLD) * width  # in scores, flat
        eight = scores.ravel().take(where)
        hit = np.flatnonzero(eight >= floor[row][:, None])
        row = row[hit // FOLD]
        return row, where.ravel()[hit] - row * (FOLD * width), eight.ravel()[hit]


def taken(scores: np.ndarray, votes: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes the best scores of each row out, so that the next best shows; returns their columns and them.

    NumPy's argmax reads twice as fast as its maximum of rows.

    Args:
      scores: float32 (n, m), contiguous; those taken become -inf.
      votes: how many are taken, k.

    Returns:
      int64 and float32 (k, n), the best first. Where a row has fewer columns the last ones are -inf.
    """
    flat, first = scores.reshape(-1), np.arange(0, scores.size, scores.shape[1])
    columns, best = np.empty((votes, len(scores)), np.int64), np.empty((votes, len(scores)), np.float32)
    for column, value in zip(columns, best, strict=True):
        scores.argmax(axis=1, out=column)
        at = first + column
        flat.take(at, out=value, mode="clip")  # with the usual "raise" NumPy copies twice
        flat[at] = -np.inf
    return columns, best


def raise_lows(lows: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Returns the k largest lower bounds of each query.

    Args:
      lows: float64 (k, n), those so far.
      lower: float64 (p, n), lower bounds of other candidates.
    """
    votes = len(lows)
    if votes == 1:
        return np.maximum(lows, lower.max(axis=0))
    both = np.concatenate([lows, lower])
    return np.partition(both, len(both) - votes, axis=0)[-votes:]


def floor_of(lows: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Returns the smallest float32 upper bound that may still win: rounded down, and above a padding of -inf.

    It is finite, and no value makes NumPy warn of an overflow.

    Args:
      lows: float64 (k, n), lower bounds of different candidates.
      margin: float64 (n,), 2C of `contracts.search`.
    """
    least = np.maximum(lows.min(axis=0) - margin, _ABOVE_LOWEST)
    return np.nextafter(least.astype(np.float32), np.float32(-np.inf))
