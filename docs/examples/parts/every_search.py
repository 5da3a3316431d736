"""A search engine of one's own: it proposes every candidate, and leaves the choice to the exact decision."""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.search import Frame, Pairs

MOST = 1 << 21


class Every:
    """Slow, and surely right: whoever proposes everything misses no one."""

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        self._count = len(frame.vectors)

    def propose(self, placed: np.ndarray, radii: np.ndarray) -> Pairs | None:
        """All pairs of a block; None asks for a smaller one."""
        if len(placed) > 1 and len(placed) * self._count > MOST:
            return None
        rows, columns = np.divmod(np.arange(len(placed) * self._count), self._count)
        return Pairs(rows, columns)
