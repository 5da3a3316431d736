"""A forest of pairs of columns, from noisy counts: how columns go together beyond what their label says.

Chow and Liu's tree (1968), chosen by noisy counts that are released. Of each label, a column's bin is drawn given the
groups of its neighbours in the forest: by the label's one-way shares times a lift for each neighbour. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDS = 50  # of iterative proportional fitting
_LEAST = 1e-6  # share below which a cell counts as empty
_SURE = 3.0  # standard deviations above chance from which on two columns go together
_CELLS = 1 << 22  # weights that are computed at a time


@dataclass(frozen=True)
class Neighbour:
    """A column that another one goes together with.

    Attributes:
      column: its position.
      groups: int64 (bins of that column,), the group of each bin.
      lift: float64 (labels, groups of that column, bins of the own column): how much likelier a bin is than by the
        label alone, given the neighbour's group.
    """

    column: int
    groups: np.ndarray
    lift: np.ndarray


@dataclass(frozen=True)
class Forest:
    """Columns and the pairs of them that go together. It has no circle.

    Attributes:
      shares: by column float64 (labels, bins), one-way shares.
      order: positions of all columns; each comes after its parent.
      parents: by column its neighbour that comes before it; None for a root.
      neighbours: by column all its neighbours.
    """

    shares: Sequence[np.ndarray]
    order: Sequence[int]
    parents: Sequence[Neighbour | None]
    neighbours: Sequence[Sequence[Neighbour]]

    @property
    def edges(self) -> list[tuple[int, int]]:
        """Returns (parent, child) of each pair, in order of the children."""
        return [(parent.column, i) for i in self.order if (parent := self.parents[i]) is not None]

    def drawn(
        self, i: int, labels: np.ndarray, bins: np.ndarray, uniform: np.ndarray, *, around: bool = False
    ) -> np.ndarray:
        """Returns new bins of a column, int64 (n,), given the bins of others in the same rows.

        Args:
          i: position of the column.
          labels: int64 (n,), positions of the labels.
          bins: int64 (n, columns); those of the parent, or of all neighbours, are read.
          uniform: float64 (n,), from 0 to below 1.
          around: given all neighbours (a Gibbs step), not the parent alone.
        """
        parent = self.parents[i]
        given = self.neighbours[i] if around else [] if parent is None else [parent]
        own = self.shares[i]
        found = np.empty(len(labels), dtype=np.int64)
        step = max(1, _CELLS // own.shape[1])
        for first in range(0, len(labels), step):
            rows = slice(first, first + step)
            weights = own[labels[rows]]
            for each in given:
                weights = weights * each.lift[labels[rows], each.groups[bins[rows, each.column]]]
            edges = np.cumsum(weights, axis=1)
            found[rows] = (edges <= (uniform[rows] * edges[:, -1])[:, None]).sum(axis=1)
        return np.minimum(found, own.shape[1] - 1)


def fit_forest(
    shares: Sequence[np.ndarray],
    label_shares: np.ndarray,
    groups: Sequence[np.ndarray],
    pairs: Mapping[tuple[int, int], np.ndarray],
    sigma: float,
) -> Forest:
    """Chooses the pairs of columns and fits their lifts.

    A pair's score is how far its noisy shares are from what labels and one-way shares predict, as a sum of absolute
    differences, less what noise and the chance of a sample would give. Pairs are taken by score, largest first, unless
    they close a circle, and only where the score is `_SURE` standard deviations of that: on few records, or at a small
    epsilon, none is. All of this is post-processing of released counts.

    Args:
      shares: by column float64 (labels, bins), which add up to 1.
      label_shares: float64 (labels,), which add up to 1.
      groups: by column int64 (bins,), the group of each bin.
      pairs: positions of two columns, the smaller first -> float64 (groups, groups), noisy counts over all labels.
      sigma: standard deviation of the noise on each of these counts, above 0 or 0.
    """
    by_group = [_grouped(own, each) for own, each in zip(shares, groups, strict=True)]
    total = max(float(np.mean([counts.sum() for counts in pairs.values()])), 1.0)
    scores = {}
    for (a, b), counts in pairs.items():
        predicted = np.einsum("l,la,lb->ab", label_shares, by_group[a], by_group[b])
        # of a cell's share: that of the privacy noise, and that of a sample of so many records
        variances = (sigma / total) ** 2 + predicted * (1 - predicted) / total
        excess = np.abs(counts / total - predicted).sum() - np.sqrt(variances * 2 / np.pi).sum()
        if excess > _SURE * np.sqrt(variances.sum() * (1 - 2 / np.pi)):
            scores[a, b] = float(excess)
    neighbours: list[list[Neighbour]] = [[] for _ in shares]
    for a, b in _spanning(scores, len(shares)):
        lift = _lifts(pairs[a, b] / total, label_shares, by_group[a], by_group[b])
        neighbours[b].append(Neighbour(a, groups[a], lift[:, :, groups[b]]))
        neighbours[a].append(Neighbour(b, groups[b], lift.transpose(0, 2, 1)[:, :, groups[a]]))
    order, parents = _ordered(neighbours)
    return Forest(shares, order, parents, neighbours)


def _grouped(shares: np.ndarray, groups: np.ndarray) -> np.ndarray:
    found = np.zeros((len(shares), int(groups.max()) + 1))
    for bin_, group in enumerate(groups.tolist()):
        found[:, group] += shares[:, bin_]
    return found


def _spanning(scores: Mapping[tuple[int, int], float], columns: int) -> list[tuple[int, int]]:
    """Returns the pairs of a maximum spanning forest (Kruskal 1956)."""
    tree = list(range(columns))
    found = []
    for a, b in sorted(scores, key=lambda pair: (-scores[pair], pair)):
        first, second = tree[a], tree[b]
        if first != second:
            tree = [first if each == second else each for each in tree]
            found.append((a, b))
    return found


def _lifts(joint: np.ndarray, label_shares: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns by label how much likelier two groups are together than by the label alone: float64 (labels, a, b).

    Over all labels the pair has its noisy shares. Each label's part of it is raked to the label's own one-way shares
    (iterative proportional fitting, Deming and Stephan 1940).

    Args:
      joint: float64 (a, b), noisy shares over all labels.
      label_shares: float64 (labels,).
      a: float64 (labels, groups), one-way shares of the first column.
      b: of the second.
    """
    apart = a[:, :, None] * b[:, None, :]
    together = np.maximum(joint, _LEAST) / np.maximum(np.einsum("l,lab->ab", label_shares, apart), _LEAST)
    found = np.maximum(apart, _LEAST * _LEAST) * together
    for _ in range(_ROUNDS):
        found *= (a / np.maximum(found.sum(axis=2), _LEAST * _LEAST))[:, :, None]
        found *= (b / np.maximum(found.sum(axis=1), _LEAST * _LEAST))[:, None, :]
    return np.where(apart > _LEAST * _LEAST, found / np.maximum(apart, _LEAST * _LEAST), 1.0)


def _ordered(neighbours: Sequence[Sequence[Neighbour]]) -> tuple[list[int], list[Neighbour | None]]:
    """Returns the columns, each after its parent, and the parents. Roots are the first columns of their trees."""
    order: list[int] = []
    parents: list[Neighbour | None] = [None] * len(neighbours)
    for root in range(len(neighbours)):
        if root in order:
            continue
        waiting = [root]
        while waiting:
            i = waiting.pop(0)
            order.append(i)
            for each in neighbours[i]:
                if each.column not in order and each.column not in waiting:
                    [back] = [own for own in neighbours[each.column] if own.column == i]
                    parents[each.column] = back
                    waiting.append(each.column)
    return order, parents
