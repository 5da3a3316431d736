"""Pairs of columns that go together: their scores from noisy counts, forests of them, and which are worth counting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pe_beam.measuring.cliques import Clique

SURE = 3.0
"""Standard deviations above chance from which on two columns go together."""
FINE = 12
"""Groups of a column beyond which noise has to be half as large: the finer groups are, the less they add."""

Pair = tuple[int, int]


def scores(
    label_shares: np.ndarray,
    by_group: Sequence[np.ndarray],
    pairs: Mapping[Pair, np.ndarray],
    sigma: float,
    total: float,
) -> dict[Pair, float]:
    """Returns the scores of those pairs of columns that go together beyond doubt.

    A score is how far a pair's noisy shares are from what labels and one-way shares predict, as a sum of absolute
    differences, less what noise and the chance of a sample would give.

    Args:
      label_shares: float64 (labels,), which add up to 1.
      by_group: by column float64 (labels, groups), one-way shares.
      pairs: positions of two columns -> float64 (groups, groups), noisy counts over all labels.
      sigma: standard deviation of the noise on each of these counts, 0 or more.
      total: number of records, as far as it is known; 1 or more.
    """
    found = {}
    for (a, b), counts in pairs.items():
        predicted = np.einsum("l,la,lb->ab", label_shares, by_group[a], by_group[b])
        # of a cell's share: that of the privacy noise, and that of a sample of so many records
        # (a share that rounding brings above 1 varies by nothing)
        variances = (sigma / total) ** 2 + np.maximum(predicted * (1 - predicted), 0.0) / total
        excess = np.abs(counts / total - predicted).sum() - np.sqrt(variances * 2 / np.pi).sum()
        if excess > SURE * np.sqrt(variances.sum() * (1 - 2 / np.pi)):
            found[a, b] = float(excess)
    return found


def spanning(scored: Mapping[Pair, float], columns: int, joined: Sequence[Sequence[int]] = ()) -> list[Pair]:
    """Returns the pairs of a maximum spanning forest (Kruskal 1956), largest score first.

    Args:
      scored: score by pair.
      columns: number of columns.
      joined: columns that are together already.
    """
    tree = list(range(columns))

    def join(a: int, b: int) -> bool:
        first, second = tree[a], tree[b]
        if first == second:
            return False
        tree[:] = [first if each == second else each for each in tree]
        return True

    for clique in joined:
        for other in clique[1:]:
            join(clique[0], other)
    return [pair for pair in sorted(scored, key=lambda pair: (-scored[pair], pair)) if join(*pair)]


@dataclass(frozen=True, kw_only=True)
class Question:
    """The terms on which columns can be counted together.

    Attributes:
      sigma: standard deviation of the noise on their counts, in votes, 0 or more; `weight` of them are a record.
      total: number of records, as far as it is known; 1 or more.
      labels: number of labels that have cells of their own; None: cells are over all labels.
      most: groups of a column, at most.
      groups_of: a column and a number of groups -> int64 (bins,), the group of each bin.
    """

    sigma: float
    total: float
    labels: int | None
    most: int
    groups_of: Callable[[int, int], np.ndarray]

    def noise(self, clique: Clique) -> float:
        """Returns the expected sum of absolute differences of shares that noise makes in columns counted together."""
        of_cell = self.sigma / (clique.weight * self.total) * math.sqrt(2 / math.pi)
        return clique.cell_count(self.labels or 1) * of_cell

    def finest(self, pair: Pair, score: float, weight: int) -> Clique | None:
        """Returns a pair in the finest groups whose noise does not hide its score, or None."""
        for size in range(self.most, 1, -1):
            groups = (self.groups_of(pair[0], size), self.groups_of(pair[1], size))
            own = Clique(pair, groups, self.labels is not None, weight)
            if self.noise(own) * (2 if size > FINE else 1) <= score:
                return own
        return None
