"""Mean and covariance of more vectors than fit in memory. They are the same to the last bit in any order of merging."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Moments of vectors of one length d.

    Attributes:
      count: number of vectors.
      mean: float64 (d,); zeros if there are no vectors.
      scatter: float64 (d, d), the sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def none(cls, dimension: int) -> Moments:
        """Returns the moments of no vectors."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @classmethod
    def of(cls, vectors: np.ndarray, *, block: int = 1024) -> Moments:
        """Returns the moments of vectors (n, d), in float64, by blocks of rows around the block's mean."""
        found = cls.none(vectors.shape[1])
        for start in range(0, len(vectors), block):
            rows = vectors[start : start + block].astype(np.float64)
            mean = rows.mean(axis=0)
            rows -= mean
            found = found.merged(cls(len(rows), mean, rows.T @ rows))
        return found

    def merged(self, other: Moments) -> Moments:
        """Returns the moments of both together (Chan, Golub and LeVeque 1979: no difference of large sums)."""
        count = self.count + other.count
        if not other.count or not self.count:
            return self if self.count else other
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        cross = np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + cross)

    def covariance(self) -> np.ndarray:
        """Returns the unbiased covariance, float64 (d, d). Raises ValueError for fewer than 2 vectors."""
        if self.count < 2:
            raise ValueError(f"covariance: 2 vectors at least are wanted; there are {self.count}")
        return self.scatter / (self.count - 1)


class Mergeable(Protocol):
    """A value that a `Tree` can hold."""

    def merged(self, other: Self) -> Self:
        """Returns both values merged."""


M = TypeVar("M", bound=Mergeable)
Tree = dict[tuple[int, int], M]
"""(level, place) -> the merged value of leaves place * 2^level to (place + 1) * 2^level - 1.

A value is merged only with its sibling in the binary tree over all leaves. So floating-point sums do not depend on the
order in which workers process the leaves.
"""


def add_leaf(tree: Tree[M], leaf: int, value: M) -> None:
    """Adds the value of one leaf (0, 1, ...; each leaf once), and merges complete siblings."""
    _put(tree, (0, leaf), value)


def join_trees(trees: Iterable[Tree[M]]) -> Tree[M]:
    """Returns one tree of all. The given trees stay unchanged."""
    joined: Tree[M] = {}
    for tree in trees:
        for place, value in tree.items():
            _put(joined, place, value)
    return joined


def whole(tree: Tree[M]) -> M:
    """Returns the value of all leaves. Values without a sibling are merged from left to right.

    Raises:
      ValueError: the tree is empty.
    """
    if not tree:
        raise ValueError("whole: a tree without leaves")
    ordered = [tree[key] for key in sorted(tree, key=lambda key: key[1] << key[0])]
    value = ordered[0]
    for other in ordered[1:]:
        value = value.merged(other)
    return value


def _put(tree: Tree[M], place: tuple[int, int], value: M) -> None:
    while (sibling := (place[0], place[1] ^ 1)) in tree:
        other = tree.pop(sibling)
        value = value.merged(other) if place[1] < sibling[1] else other.merged(value)
        place = (place[0] + 1, place[1] // 2)
    tree[place] = value
