"""How children follow from their parent, from noisy counts: each column given the parent's and the child's before it.

A column's bin has the share that its label gives it, times a lift for each column that it goes together with. Lifts are
raked (iterative proportional fitting, Deming and Stephan 1940) on drawn parents until all measured pairs hold at once.
NumPy only. All of it is post-processing of counts that are released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pe_beam.contracts.generator import Marginals
from pe_beam.measuring.shares import shares_of

_ROUNDS = 30
_LEAST = 1e-6  # share below which a bin counts as empty
_SURE = 3.0  # standard deviations above chance from which on two columns go together
_STEP = 20.0  # largest factor of a lift in one round


@dataclass(frozen=True)
class Context:
    """A column that a child's column goes together with.

    Attributes:
      column: its position among all columns: the parent's, the number of children, the child's.
      groups: int64 (bins of that column,), the group of each bin.
      lift: float64 (groups of that column, bins of the own column).
    """

    column: int
    groups: np.ndarray
    lift: np.ndarray


@dataclass(frozen=True)
class ChildModel:
    """The child's columns, each given the columns before it.

    Attributes:
      shares: by column float64 (labels, bins), or (1, bins) for all labels.
      contexts: by column what it depends on besides its label.
    """

    shares: Sequence[np.ndarray]
    contexts: Sequence[Sequence[Context]]

    def weights(self, i: int, labels: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Returns how likely each bin of a column is, up to a factor of each row: float64 (n, bins).

        Args:
          i: position of the column among the child's.
          labels: int64 (n,), positions of the labels.
          bins: int64 (n, all columns); those that the column depends on are read.
        """
        own = self.shares[i]
        found = own[labels] if len(own) > 1 else np.repeat(own, len(labels), axis=0)
        for each in self.contexts[i]:
            found = found * each.lift[each.groups[bins[:, each.column]]]
        return found

    def drawn(self, i: int, labels: np.ndarray, bins: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Returns bins of a column, int64 (n,), as `weights` says. `uniform`: float64 (n,), from 0 to below 1."""
        edges = np.cumsum(self.weights(i, labels, bins), axis=1)
        found: np.ndarray = (edges <= (uniform * edges[:, -1])[:, None]).sum(axis=1)
        return np.minimum(found, edges.shape[1] - 1)


@dataclass(frozen=True)
class Drawn:
    """Parents with children that are drawn by the noisy counts, on which lifts are raked.

    Attributes:
      labels: int64 (n,), positions of the labels.
      bins: int64 (n, columns of the parent and the number of children).
      rng: draws children for them.
    """

    labels: np.ndarray
    bins: np.ndarray
    rng: np.random.Generator


def fit_children(marginals: Marginals, above: int, parents: Drawn) -> ChildModel:
    """Fits the child's columns one after another.

    A column of a family without children has its bin in the last group, and the number of children is 0 in the first:
    both say nothing of children and are left out.

    Args:
      marginals: noisy counts of all columns: the parent's, the number of children, the child's.
      above: number of columns before the child's.
      parents: drawn parents that have children, at least one.
    """
    names = list(marginals.counts)
    shares, contexts = [], []
    for name in names[above:]:
        found = _Fit(marginals, name, above, parents).fitted(names[: parents.bins.shape[1]])
        shares.append(found.shares[0])
        contexts.append(found.contexts[0])
        drawn = found.drawn(0, parents.labels, parents.bins, parents.rng.random(len(parents.bins)))
        parents = replace(parents, bins=np.column_stack([parents.bins, drawn]))
    return ChildModel(shares, contexts)


class _Fit:
    """Fits one column of the child."""

    def __init__(self, marginals: Marginals, name: str, above: int, rows: Drawn) -> None:
        """Takes the column's name, the number of columns before the child's, and children up to the column before."""
        self._marginals, self._name, self._above = marginals, name, above
        self._labels, self._bins = rows.labels, rows.bins
        counts = marginals.counts[name][:, :-1]
        self._wanted = np.maximum(np.stack([shares_of(row, float(row.sum())) for row in counts]), _LEAST)
        self._shares = self._wanted
        self._weights = self._shares[self._labels]
        if marginals.groups:
            groups = marginals.groups[name][:-1]
            self._own = np.eye(int(groups.max()) + 1)[groups]  # (bins, groups)

    def fitted(self, before: Sequence[str]) -> ChildModel:
        """Returns the model of this column alone, given the columns before it."""
        places = range(len(before)) if self._marginals.pairs else ()
        chosen = [found for place in places if (found := self._target(place, before[place])) is not None]
        lifts = [np.ones((len(member[0]), self._own.shape[1])) for _, member, _ in chosen]
        for _ in range(_ROUNDS if chosen else 0):
            for place, (_, member, target) in enumerate(chosen):
                ratio = _ratio(target, self._now(member))
                lifts[place] *= ratio
                self._weights *= (member @ ratio)[:, self._own.argmax(axis=1)]
            self._rake_labels()
        contexts = [
            Context(place, self._marginals.groups[before[place]], lift[:, self._own.argmax(axis=1)])
            for (place, _, _), lift in zip(chosen, lifts, strict=True)
        ]
        return ChildModel([self._shares], [contexts])

    def _now(self, member: np.ndarray) -> np.ndarray:
        """Returns the model's shares of the own groups, given each group of another column."""
        sure = self._weights / self._weights.sum(axis=1, keepdims=True)
        return _rows(member.T @ (sure @ self._own))

    def _rake_labels(self) -> None:
        sure = self._weights / self._weights.sum(axis=1, keepdims=True)
        member = np.eye(len(self._wanted))[self._labels]
        ratio = _ratio(self._wanted, _rows(member.T @ sure))
        ratio[member.sum(axis=0) == 0] = 1.0
        self._shares = self._shares * ratio
        self._weights *= member @ ratio

    def _target(self, place: int, other: str) -> tuple[int, np.ndarray, np.ndarray] | None:
        """Returns position, membership of rows in its groups, and wanted shares; None: they do not go together.

        Shares of a group are those counted, as far as they stand out of the noise (James and Stein 1961), and those
        that the label alone predicts for the rest. A group with fewer counts than noise is left to the prediction.
        """
        counts = self._marginals.pairs[other, self._name][:, :-1]
        member = np.eye(len(counts))[self._marginals.groups[other][self._bins[:, place]]]
        predicted, totals = self._now(member), counts.sum(axis=1)
        sigma = self._marginals.pair_sigma
        clear = totals > max(sigma * np.sqrt(counts.shape[1]), _LEAST)
        nothing = 0 if place == self._above - 1 else len(counts) - 1 if place >= self._above else None
        if nothing is not None:
            clear[nothing] = False
        if not clear.any():
            return None
        known, sums = predicted[clear], totals[clear, None]
        far = counts[clear] / sums - known
        noise = (sigma / sums) ** 2 + known * (1 - known) / sums  # of the counts, and of a sample of so many
        scale = sums / sums.sum()
        excess = (scale * (np.abs(far) - np.sqrt(noise * 2 / np.pi))).sum()
        if not excess > _SURE * np.sqrt((scale**2 * noise).sum() * (1 - 2 / np.pi)):
            return None
        kept = np.maximum(0.0, 1 - noise.sum(axis=1) / np.maximum((far**2).sum(axis=1), _LEAST**2))
        wanted = predicted.copy()
        wanted[clear] = known + kept[:, None] * far
        return place, member, _rows(np.maximum(wanted, _LEAST))


def _rows(weights: np.ndarray) -> np.ndarray:
    """Returns each row divided by its sum; a row of zeros has equal shares."""
    sums = weights.sum(axis=1, keepdims=True)
    return np.where(sums > 0, weights / np.where(sums > 0, sums, 1.0), 1 / weights.shape[1])


def _ratio(wanted: np.ndarray, now: np.ndarray) -> np.ndarray:
    return np.clip(wanted / np.maximum(now, _LEAST), 1 / _STEP, _STEP)
