"""Balances a draw: replaces what is drawn, one place at a time, until counts of the draw lie where they are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_SWEEPS = 8
_ENOUGH = 0.01  # share of places: a sweep that replaces fewer is the last
_MOST = 1 << 17  # places that are looked at, over all sweeps
_MORE = 1.5  # times as often as expected a candidate is drawn at most, if it is expected more than once
_OTHERS = 64  # candidates that are tried for a place
_AT_A_TIME = 1024  # places for which these are drawn together
_GRID = 1 << 12  # counts are whole multiples of 1 / _GRID, so that sums are exact in any order
_NEVER = np.int64(1 << 60)


@dataclass(frozen=True)
class Wanted:
    """Where the counts of a draw are wanted. A candidate counts once in each of several tables.

    Attributes:
      cells: int64 (m, tables), the cell of each candidate in each table; tables share no cell.
      low: float64 (cells,), the least count that is as good as any up to `high`.
      high: float64 (cells,), not below `low`.
    """

    cells: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Balanced(NamedTuple):
    """A balanced draw.

    Attributes:
      draws: int64 (m,), how often each candidate is drawn.
      replaced: number of places that were given to another candidate.
      before: how far counts are beyond what is wanted, as a share of all places: half of the sum over cells, as a mean
        over tables.
      after: the same when it was balanced.
    """

    draws: np.ndarray
    replaced: int
    before: float
    after: float


def balance(
    draws: np.ndarray, expected: np.ndarray, groups: np.ndarray, wanted: Wanted, rng: np.random.Generator
) -> Balanced:
    """Replaces drawn candidates by others of their group, where that brings counts nearer to what is wanted.

    For each place in turn some candidates are drawn by the same weights, and the one that costs least takes it if it
    costs less than the one that has it. The cost is how far each count is out of its bounds, added up over all cells.
    Balance is not bought by copies: a candidate that is expected once at most is not drawn again, and another one half
    as often again as expected at most, unless it was before. Places are gone through until hardly any changes, eight
    times at most.

    Args:
      draws: int64 (m,), a draw by the weights.
      expected: float64 (m,), 0 or more: the weights, as expected numbers of draws.
      groups: int64 (m,), from 0. As many are drawn of each group after as before.
      wanted: where the counts are wanted.
      rng: source of randomness.
    """
    tally = _Tally(draws, wanted)
    others = _Others(expected, groups)
    most = np.maximum(np.ceil(np.where(expected > 1, _MORE * expected, expected)).astype(np.int64), draws)
    places, drawn, replaced = np.repeat(np.arange(len(draws)), draws), draws.copy(), 0
    before = tally.beyond
    for _ in range(min(_SWEEPS, max(_MOST // max(len(places), 1), 1))):
        now = 0
        order = rng.permutation(len(places))[:_MOST]
        for start in range(0, len(order), _AT_A_TIME):
            part = order[start : start + _AT_A_TIME]
            tried = others.drawn(groups[places[part]], rng)
            for place, candidates in zip(part.tolist(), tried, strict=True):
                own = places[place]
                tally.put(own, -1)
                drawn[own] -= 1
                costs = np.where(drawn[candidates] < most[candidates], tally.costs(candidates), _NEVER)
                best = int(costs.argmin())
                if costs[best] < tally.cost(own):
                    places[place] = own = candidates[best]
                    now += 1
                tally.put(own, 1)
                drawn[own] += 1
        replaced += now
        if now < _ENOUGH * len(places):
            break
    unit = 2.0 * _GRID * max(len(places), 1) * wanted.cells.shape[1]
    return Balanced(drawn, replaced, before / unit, tally.beyond / unit)


class _Tally:
    """Counts of what is drawn, as whole multiples of 1 / _GRID, and what one more in a cell would cost."""

    def __init__(self, draws: np.ndarray, wanted: Wanted) -> None:
        self._cells = wanted.cells
        self._low, self._high = (np.rint(each * _GRID).astype(np.int64) for each in (wanted.low, wanted.high))
        self._counts = np.zeros(len(self._low), dtype=np.int64)
        for table in wanted.cells.T:
            np.add.at(self._counts, table, draws * _GRID)
        self._next = self._beyond(slice(None), 1) - self._beyond(slice(None), 0)

    def _beyond(self, cells: np.ndarray | slice, more: int) -> np.ndarray:
        """Returns how far counts of cells are out of their bounds, with so many more in each of them."""
        counts = self._counts[cells] + more * _GRID
        found: np.ndarray = np.maximum(np.maximum(counts - self._high[cells], self._low[cells] - counts), 0)
        return found

    @property
    def beyond(self) -> int:
        """How far all counts together are out of their bounds, on the grid."""
        return int(self._beyond(slice(None), 0).sum())

    def put(self, candidate: int, times: int) -> None:
        """Counts a candidate so many times more."""
        cells = self._cells[candidate]
        self._counts[cells] += times * _GRID
        self._next[cells] = self._beyond(cells, 1) - self._beyond(cells, 0)

    def cost(self, candidate: int) -> int:
        """Returns what drawing a candidate once more adds to the distance, on the grid; below 0 if it lessens it."""
        return int(self._next[self._cells[candidate]].sum())

    def costs(self, candidates: np.ndarray) -> np.ndarray:
        """Returns the same of several, int64 (n,)."""
        found: np.ndarray = self._next[self._cells[candidates]].sum(axis=1)
        return found


class _Others:
    """Draws candidates of a group by their weights."""

    def __init__(self, expected: np.ndarray, groups: np.ndarray) -> None:
        self._own = [np.flatnonzero((groups == group) & (expected > 0)) for group in range(int(groups.max()) + 1)]
        self._edges = [np.cumsum(expected[own]) for own in self._own]

    def drawn(self, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns candidates for places of the given groups, int64 (n, _OTHERS)."""
        uniform = rng.random((len(groups), _OTHERS))
        found = np.empty(uniform.shape, dtype=np.int64)
        for group in np.unique(groups).tolist():
            rows, edges = groups == group, self._edges[group]
            at = np.searchsorted(edges, uniform[rows] * edges[-1], side="right")
            found[rows] = self._own[group][np.minimum(at, len(edges) - 1)]
        return found
