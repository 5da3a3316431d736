"""A forest of columns that go together, from noisy counts: how they do beyond what their label says.

Chow and Liu's tree (1968), chosen by noisy counts that are released. Of each label, a column's bin is drawn given the
groups of its neighbours in the forest: by the label's one-way shares times a lift for each neighbour. Neighbours are
columns of a counted pair, or of a counted clique of more. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pe_beam.contracts.generator import Joint
from pe_beam.measuring.pairs import scores, spanning
from pe_beam.measuring.shares import grouped, shares_of

_ROUNDS = 50  # of iterative proportional fitting
_LEAST = 1e-6  # share below which a cell counts as empty
_CELLS = 1 << 22  # weights that are computed at a time


@dataclass(frozen=True)
class Neighbours:
    """Columns that another one goes together with: one, or the others of a clique.

    Attributes:
      columns: their positions.
      groups: of each int64 (bins of that column,), the group of each bin.
      lift: float64 (labels, groups of each, bins of the own column): how much likelier a bin is than by the label
        alone, given the groups of the neighbours.
    """

    columns: tuple[int, ...]
    groups: tuple[np.ndarray, ...]
    lift: np.ndarray


@dataclass(frozen=True)
class Lift:
    """How much likelier groups of some columns are together than by the label alone.

    Attributes:
      columns: positions, two or more.
      groups: of each int64 (bins,).
      values: float64 (labels, groups of each).
    """

    columns: tuple[int, ...]
    groups: tuple[np.ndarray, ...]
    values: np.ndarray

    def of(self, own: int, given: Sequence[int], by_group: Mapping[int, np.ndarray]) -> Neighbours:
        """Returns a column's neighbours among others of the clique, averaged over the rest by their one-way shares.

        Args:
          own: position of the column.
          given: positions of the neighbours.
          by_group: of each column of the clique float64 (labels, groups), one-way shares.
        """
        axes = {column: place + 1 for place, column in enumerate(self.columns)}
        values = self.values
        for column in self.columns:
            if column != own and column not in given:
                values = (values * _along(by_group[column], axes[column], values.ndim)).sum(
                    axis=axes[column], keepdims=True
                )
        order = (0, *(axes[column] for column in given), axes[own])
        values = values.transpose(*order, *(axis for axis in range(1, values.ndim) if axis not in order))
        values = values.reshape(values.shape[: len(order)])
        groups = dict(zip(self.columns, self.groups, strict=True))
        return Neighbours(tuple(given), tuple(groups[column] for column in given), values[..., groups[own]])


@dataclass(frozen=True)
class Forest:
    """Columns and the cliques of them that go together. It has no circle.

    Attributes:
      shares: by column float64 (labels, bins), one-way shares.
      order: positions of all columns; each comes after its parents.
      parents: by column its neighbours that come before it; None for a root.
      neighbours: by column all its neighbours, by clique.
    """

    shares: Sequence[np.ndarray]
    order: Sequence[int]
    parents: Sequence[Neighbours | None]
    neighbours: Sequence[Sequence[Neighbours]]

    @property
    def edges(self) -> list[tuple[int, ...]]:
        """Returns (parents, child) of each column that has parents, in order of the children."""
        return [(*parent.columns, i) for i in self.order if (parent := self.parents[i]) is not None]

    def drawn(
        self, i: int, labels: np.ndarray, bins: np.ndarray, uniform: np.ndarray, *, around: bool = False
    ) -> np.ndarray:
        """Returns new bins of a column, int64 (n,), given the bins of others in the same rows.

        Args:
          i: position of the column.
          labels: int64 (n,), positions of the labels.
          bins: int64 (n, columns); those of the parents, or of all neighbours, are read.
          uniform: float64 (n,), from 0 to below 1.
          around: given all neighbours (a Gibbs step), not the parents alone.
        """
        found, size = np.empty(len(labels), dtype=np.int64), self.shares[i].shape[1]
        step = max(1, _CELLS // size)
        for first in range(0, len(labels), step):
            rows = slice(first, first + step)
            edges = np.cumsum(self.weights(i, labels[rows], bins[rows], around=around), axis=1)
            found[rows] = (edges <= (uniform[rows] * edges[:, -1])[:, None]).sum(axis=1)
        return np.minimum(found, size - 1)

    def weights(self, i: int, labels: np.ndarray, bins: np.ndarray, *, around: bool) -> np.ndarray:
        """Returns how likely each bin of a column is in some rows, float64 (n, bins): in proportion.

        Args:
          i: position of the column.
          labels: int64 (n,), positions of the labels.
          bins: int64 (n, columns); those of the parents, or of all neighbours, are read.
          around: given all neighbours, not the parents alone.
        """
        parent = self.parents[i]
        found = self.shares[i][labels]
        for each in self.neighbours[i] if around else [] if parent is None else [parent]:
            at = (groups[bins[:, column]] for column, groups in zip(each.columns, each.groups, strict=True))
            found = found * each.lift[(labels, *at)]
        return found


def forest_of(
    shares: Sequence[np.ndarray], totals: np.ndarray, places: Mapping[str, int], joints: Sequence[Joint]
) -> Forest:
    """Returns the forest of joints, all of which are taken.

    Args:
      shares: by column float64 (labels, bins), which add up to 1.
      totals: float64 (labels,), noisy numbers of records.
      places: position of each column.
      joints: they close no circle.
    """
    label_shares, lifts = shares_of(totals, float(totals.sum())), []
    for each in joints:
        columns = tuple(places[name] for name in each.columns)
        by_group = [grouped(shares[i], own) for i, own in zip(columns, each.groups, strict=True)]
        joint = _joint(each.counts, totals)
        values = _lifts(joint if len(joint) == len(totals) else joint[0], label_shares, by_group)
        lifts.append(Lift(columns, each.groups, values))
    return _grown(shares, lifts)


def _joint(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Returns the shares closest to noisy counts, of each label."""
    sums = totals if len(counts) == len(totals) else [float(totals.sum())]
    return np.stack([shares_of(own.ravel(), total).reshape(own.shape) for own, total in zip(counts, sums, strict=True)])


def fit_forest(
    shares: Sequence[np.ndarray],
    label_shares: np.ndarray,
    groups: Sequence[np.ndarray],
    pairs: Mapping[tuple[int, int], np.ndarray],
    sigma: float,
) -> Forest:
    """Chooses the pairs of columns and fits their lifts.

    Pairs are taken by score (`measuring.pairs`), largest first, unless they close a circle, and only where the score is
    far above chance: on few records, or at a small epsilon, none is. All of this is post-processing of released counts.

    Args:
      shares: by column float64 (labels, bins), which add up to 1.
      label_shares: float64 (labels,), which add up to 1.
      groups: by column int64 (bins,), the group of each bin.
      pairs: positions of two columns, the smaller first -> float64 (groups, groups), noisy counts over all labels.
      sigma: standard deviation of the noise on each of these counts, above 0 or 0.
    """
    by_group = [grouped(own, each) for own, each in zip(shares, groups, strict=True)]
    total = max(float(np.mean([counts.sum() for counts in pairs.values()])), 1.0)
    chosen = spanning(scores(label_shares, by_group, pairs, sigma, total), len(shares))
    return _grown(
        shares,
        [
            Lift((a, b), (groups[a], groups[b]), _lifts(pairs[a, b] / total, label_shares, [by_group[a], by_group[b]]))
            for a, b in chosen
        ],
    )


def _along(values: np.ndarray, axis: int, dimensions: int) -> np.ndarray:
    """Returns one-way shares, float64 (labels, groups), as an array whose groups are along an axis."""
    shape = [1] * dimensions
    shape[0], shape[axis] = values.shape
    return values.reshape(shape)


def _lifts(joint: np.ndarray, label_shares: np.ndarray, by_group: Sequence[np.ndarray]) -> np.ndarray:
    """Returns by label how much likelier groups are together than by the label alone: float64 (labels, groups of each).

    Each label's shares are raked to its own one-way shares (iterative proportional fitting, Deming and Stephan 1940).
    They begin with the label's noisy shares; where those are over all labels, with the label's part of them.

    Args:
      joint: float64 (labels, groups of each), noisy shares; or (groups of each) over all labels.
      label_shares: float64 (labels,).
      by_group: of each column float64 (labels, groups), one-way shares.
    """
    dimensions = len(by_group) + 1
    apart = _along(by_group[0], 1, dimensions)
    for axis, own in enumerate(by_group[1:], start=2):
        apart = apart * _along(own, axis, dimensions)
    if joint.ndim == dimensions:
        found = np.maximum(joint, _LEAST * apart)
    else:
        overall = np.einsum("l,l...->...", label_shares, apart)
        together = np.maximum(joint, _LEAST) / np.maximum(overall, _LEAST)
        found = np.maximum(apart, _LEAST * _LEAST) * together
    every = range(1, dimensions)
    for _ in range(_ROUNDS):
        for axis, own in zip(every, by_group, strict=True):
            sums = found.sum(axis=tuple(other for other in every if other != axis), keepdims=True)
            found *= _along(own, axis, dimensions) / np.maximum(sums, _LEAST * _LEAST)
    return np.where(apart > _LEAST * _LEAST, found / np.maximum(apart, _LEAST * _LEAST), 1.0)


def _grown(shares: Sequence[np.ndarray], lifts: Sequence[Lift]) -> Forest:
    """Returns the forest of some lifts. Roots are the first columns of their trees."""
    by_group = [
        {i: grouped(shares[i], own) for i, own in zip(each.columns, each.groups, strict=True)} for each in lifts
    ]
    of = [[place for place, each in enumerate(lifts) if i in each.columns] for i in range(len(shares))]
    neighbours = [
        [lifts[place].of(i, [c for c in lifts[place].columns if c != i], by_group[place]) for place in of[i]]
        for i in range(len(shares))
    ]
    order: list[int] = []
    parents: list[Neighbours | None] = [None] * len(shares)
    for root in range(len(shares)):
        waiting = [] if root in order else [root]
        while waiting:
            i = waiting.pop(0)
            order.append(i)
            for place in of[i]:
                known = [i]
                for other in lifts[place].columns:
                    if other not in order and other not in waiting:
                        parents[other] = lifts[place].of(other, known, by_group[place])
                        waiting.append(other)
                        known.append(other)
    return Forest(shares, order, parents, neighbours)
