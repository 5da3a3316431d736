"""Engine `blas`: NumPy's matrix products."""

from __future__ import annotations

import threading

import numpy as np

from pe_beam.contracts.search import UNIT, Frame, Pairs, product_error

_MOST_PAIRS = 1 << 21  # 32 MB of pairs; if there are more, the block is halved
_LOWEST = np.finfo(np.float32).min


class BlasProposer:
    """Multiplies a block of queries by a tile of candidates (NumPy's BLAS), then scans the products.

    Two extra columns make a product the *upper bound* of s: x' |-> (x', 1, |x'|) and
    y' |-> (y', -|y'|^2/2 + B |y'|^2, A |y'|). So each candidate has its own bound, and one far candidate does
    not widen the bounds of the others. The lower bound is smaller by 2 (A |x'||y'| + B |y'|^2).

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for.
      tile: candidates at a time. Tile and block together bound memory.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        count, dimension = frame.vectors.shape
        error = product_error(dimension + 2)
        self._a = 1.2 * error + 3 * UNIT
        self._b = 0.0 if frame.product else 0.6 * error + 2 * UNIT
        self._frame, self._votes = frame, votes
        self._tile = -(-count // -(-count // tile))  # equal tiles
        half = 0.0 if frame.product else 0.5
        self._matrix = np.empty((count, dimension + 2), dtype=np.float32)
        self._matrix[:, :-2] = frame.vectors
        with np.errstate(over="ignore", invalid="ignore"):  # after an overflow no query is safe, and none is made
            self._matrix[:, -2] = (self._b - half) * frame.norms**2
            self._matrix[:, -1] = self._a * frame.norms
        self._local = threading.local()

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        left = np.ones((len(placed), placed.shape[1] + 2), dtype=np.float32)
        left[:, :-2] = placed
        left[:, -1] = radii
        margin = 2 * self._frame.constant_error(radii)
        lows = np.full((self._votes, len(left)), -np.inf)  # the best lower bounds so far, of each query
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self._matrix), self._tile):
            part = self._matrix[start : start + self._tile]
            scores = self._buffer(len(left), len(part))
            np.matmul(left, part.T, out=scores)
            found += self._scan(scores, start, radii, margin, lows)
            if len(left) > 1 and sum(len(rows) for rows, _, _ in found) > _MOST_PAIRS:
                return None
        rows, columns, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        kept = np.flatnonzero(values >= _floor(lows, margin)[rows])
        kept = kept[np.argsort(rows[kept], kind="stable")]
        return Pairs(rows[kept], columns[kept])

    def _scan(
        self, scores: np.ndarray, start: int, radii: np.ndarray, margin: np.ndarray, lows: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Returns rows, columns and upper bounds of pairs that may win in this tile. Changes `lows` and `scores`."""
        rows = np.arange(len(scores))
        found = []
        for _ in range(min(self._votes, scores.shape[1])):
            columns = scores.argmax(axis=1)
            upper = scores[rows, columns]
            scores[rows, columns] = -np.inf
            norms = self._frame.norms[columns + start]
            lower = upper - 2 * (self._a * radii + self._b * norms) * norms
            worst = lows.argmin(axis=0)
            lows[worst, rows] = np.maximum(lows[worst, rows], lower)
            found.append((rows, columns + start, upper))
        floor = _floor(lows, margin)
        more = np.flatnonzero(scores.max(axis=1) >= floor)
        if len(more):
            scores = scores[more]
            at, columns = np.nonzero(scores >= floor[more, None])
            found.append((more[at], columns + start, scores[at, columns]))
        return found

    def _buffer(self, rows: int, columns: int) -> np.ndarray:
        """Returns a scratch array of this thread. A new array for every block would cost as much time as the scan."""
        flat: np.ndarray | None = getattr(self._local, "flat", None)
        if flat is None or len(flat) < rows * columns:
            flat = self._local.flat = np.empty(rows * columns, dtype=np.float32)
        return flat[: rows * columns].reshape(rows, columns)


def _floor(lows: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Returns the smallest float32 upper bound that may still win: rounded down, and above the masked -inf."""
    floor = (lows.min(axis=0) - margin).astype(np.float32)
    return np.maximum(np.nextafter(floor, np.float32(-np.inf)), _LOWEST)
