"""Counts records in the cells of several cliques, which lie one after the other: exact whole numbers, from bins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pe_beam.measuring.cliques import Clique

_ROWS = 8192
"""Rows that are counted at a time, so that their codes stay in a processor's cache."""


class CellCounter:
    """The cells of some cliques, and how often records count in them.

    Attributes:
      starts: int64 (cliques,), the first cell of each clique.
      width: number of cells.

    >>> single, pair = Clique((0,), (np.arange(2),), True), Clique((0, 1), (np.arange(2), np.arange(3)), False, 4)
    >>> CellCounter([single, pair], 2).count(np.array([[1, 2], [1, 0]], dtype=np.uint8), np.array([0, 1])).tolist()
    [0, 1, 0, 1, 0, 0, 0, 4, 0, 4]
    """

    def __init__(self, cliques: Sequence[Clique], labels: int) -> None:
        """Takes cliques in order, and the number of labels."""
        self._cliques = list(cliques)
        self._sizes = [each.cell_count(labels) for each in self._cliques]
        self.starts = np.cumsum([0, *self._sizes[:-1]])
        self.width = sum(self._sizes)
        # Many cliques share a column in the same groups, so each of these is looked up once.
        self._grouped: list[tuple[int, np.ndarray]] = []
        self._places: list[list[int]] = []
        known: dict[tuple[int, bytes], int] = {}
        for each in self._cliques:
            own = [(column, groups.tobytes()) for column, groups in zip(each.columns, each.groups, strict=True)]
            for key, groups in zip(own, each.groups, strict=True):
                if key not in known:
                    known[key] = len(self._grouped)
                    self._grouped.append((key[0], groups.astype(np.intp)))
            self._places.append([known[key] for key in own])

    def count(self, bins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns how often all records together count in each cell, int64 (cells,).

        Args:
          bins: whole numbers of any type (n, all columns).
          labels: whole numbers of any type (n,), positions in the declared list.
        """
        found = np.zeros(self.width, dtype=np.int64)
        for first in range(0, len(bins), _ROWS):
            rows = slice(first, first + _ROWS)
            for place, codes in enumerate(self._codes(bins[rows], labels[rows])):
                start, size = self.starts[place], self._sizes[place]
                found[start : start + size] += self._cliques[place].weight * np.bincount(codes, minlength=size)
        return found

    def ballots(self, bins: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows of `bins` and the cells in which they count, int64 (v,) each: as often as they count there."""
        found: list[np.ndarray] = []
        for place, codes in enumerate(self._codes(bins, labels)):
            found += [self.starts[place] + codes] * self._cliques[place].weight
        return np.tile(np.arange(len(bins)), len(found)), np.concatenate(found)

    def _codes(self, bins: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
        """Yields of each clique in which of its cells each record is, int64 (n,)."""
        grouped, labels = [groups[bins[:, column]] for column, groups in self._grouped], labels.astype(np.intp)
        for each, places in zip(self._cliques, self._places, strict=True):
            yield each.cells_in([grouped[place] for place in places], labels)
