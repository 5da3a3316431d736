"""Engine `blas`: NumPy's matrix products."""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.search import UNIT, USUAL_BLOCK, Frame, Pairs, product_error
from pe_beam.voting.search.scan import Scan, floor_of, widths
from pe_beam.voting.search.single import Single

_MOST_PAIRS = 1 << 21  # 32 MB of pairs; if there are more, the block is halved


class BlasProposer:
    """Multiplies a block of queries by a tile of candidates (NumPy's BLAS), then scans the products.

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for.
      tile: candidates at a time. Tile and block together bound memory.

    Attributes:
      block: number of queries that it likes to be given at a time.
    """

    one_thread = True
    """The scan is no BLAS, so one block would leave cores idle."""

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        error = product_error(frame.vectors.shape[1] + 2)
        a, b = 1.2 * error + 3 * UNIT, 0.0 if frame.product else 0.6 * error + 2 * UNIT
        self._search: Single | _Several = (
            Single(frame, a, b, tile=tile) if votes == 1 else _Several(frame, a, b, votes=votes, tile=tile)
        )
        self.block = self._search.block

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        return self._search.propose(placed, radii)


class _Several:
    """Several votes a query.

    Two extra columns make a product the *upper bound* of s: x' |-> (x', 1, |x'|) and
    y' |-> (y', -|y'|^2/2 + B |y'|^2, A |y'|). So each candidate has its own bound, and one far candidate does
    not widen the bounds of the others. The lower bound is smaller by 2 (A |x'||y'| + B |y'|^2).

    Args: as of `Single`, and `votes`.
    """

    block = USUAL_BLOCK

    def __init__(self, frame: Frame, a: float, b: float, *, votes: int, tile: int) -> None:
        count, dimension = frame.vectors.shape
        self._a, self._b, self._frame, self._votes = a, b, frame, votes
        self._width, tiles = widths(count, tile)
        half = 0.0 if frame.product else 0.5
        self._matrix = np.zeros((self._width * tiles, dimension + 2), dtype=np.float32)
        self._matrix[count:, -2] = -np.inf  # padding never wins
        real = self._matrix[:count]
        real[:, :-2] = frame.vectors
        with np.errstate(over="ignore", invalid="ignore"):  # after an overflow no query is safe, and none is made
            real[:, -2] = (self._b - half) * frame.norms**2
            real[:, -1] = self._a * frame.norms
        self._norms = np.zeros(len(self._matrix))
        self._norms[:count] = frame.norms
        self._scan = Scan(votes, 4 * votes)  # four probes a vote: the second best may be in a group with the best

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """See `Proposer`."""
        left = self._scan.scratch(len(placed), placed.shape[1] + 2)
        left[:, :-2], left[:, -2], left[:, -1] = placed, 1, radii
        margin = 2 * self._frame.constant_error(radii)
        lows = np.full((len(left), self._votes), -np.inf)  # the best lower bounds so far, of each query
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for start in range(0, len(self._matrix), self._width):
            scores, folds = self._scan.multiply(left, self._matrix[start : start + self._width])
            columns, upper = self._scan.probe(scores, folds)
            norms = self._norms[columns + start]
            lower = upper - 2 * (self._a * radii[:, None] + self._b * norms) * norms
            lows = self._scan.raise_lows(lows, lower)
            rows, columns, values = self._scan.reach(scores, folds, floor_of(lows, margin))
            found.append((rows, columns + start, values))
            if len(left) > 1 and sum(len(rows) for rows, _, _ in found) > _MOST_PAIRS:
                return None
        rows, columns, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        kept = np.flatnonzero(values >= floor_of(lows, margin)[rows])
        kept = kept[np.argsort(rows[kept], kind="stable")]
        return Pairs(rows[kept], columns[kept])
