"""Cliques: columns whose values are counted together, by groups of bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Clique:
    """Columns that are counted together. A record counts in one cell of it, `weight` times.

    Attributes:
      columns: positions of the columns, ascending. There may be none in a clique by label: it counts labels alone.
      groups: of each of them int64 (bins,), the group of each bin.
      by_label: whether each label has cells of its own.
      weight: how often a record counts in its cell, 1 or more.
    """

    columns: tuple[int, ...]
    groups: tuple[np.ndarray, ...]
    by_label: bool
    weight: int = 1

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The number of groups of each column."""
        return tuple(int(own.max()) + 1 for own in self.groups)

    def cell_count(self, labels: int) -> int:
        """Returns the number of its cells: over all labels, or of each of so many labels."""
        return (labels if self.by_label else 1) * math.prod(self.shape)

    def cells(self, bins: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the cell of each record, int64 (n,).

        Args:
          bins: int64 (n, all columns).
          labels: int64 (n,), positions in the declared list.
        """
        groups = [own[bins[:, column]] for column, own in zip(self.columns, self.groups, strict=True)]
        return self.cells_in(groups, labels.astype(np.int64))

    def cells_in(self, groups: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
        """Returns the cell of each record, int64 (n,), where its groups are known.

        Args:
          groups: by column of the clique int64 (n,), the group in which the record is.
          labels: int64 (n,), positions in the declared list.
        """
        first, *rest = [labels, *groups] if self.by_label else groups
        for own, size in zip(rest, self.shape[len(self.shape) - len(rest) :], strict=True):
            first = first * size + own
        return first


def norm_squared(cliques: Sequence[Clique]) -> int:
    """Returns the squared L2 norm of what one record adds to all cells of some cliques together."""
    return sum(each.weight**2 for each in cliques)


def weights_within(bound: int, count: int) -> list[int]:
    """Returns `count` weights, 0 or more and about even, whose squares add up to at most `bound`, larger ones first.

    >>> weights_within(48, 12), weights_within(20, 3), weights_within(2, 3)
    ([2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], [3, 2, 2], [1, 1, 0])
    """
    least = math.isqrt(bound // count)
    found, left = [least] * count, bound - count * least**2
    for place in range(count):
        if left >= (step := 2 * least + 1):
            found[place], left = least + 1, left - step
    return found
