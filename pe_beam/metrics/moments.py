"""Mean and covariance of more vectors than fit in memory, the same to the last bit in any order of merging."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Moments of vectors of one length d.

    Attributes:
      count: how many vectors.
      mean: float64 (d,); zeros where there are none.
      scatter: float64 (d, d), the sum of (x - mean)(x - mean)^T.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def none(cls, dimension: int) -> Moments:
        """Of no vector."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @classmethod
    def of(cls, vectors: np.ndarray, *, block: int = 1024) -> Moments:
        """Of vectors of shape (n, d), `block` rows at a time, in float64 and around each block's own mean."""
        found = cls.none(vectors.shape[1])
        for start in range(0, len(vectors), block):
            rows = vectors[start : start + block].astype(np.float64)
            mean = rows.mean(axis=0)
            rows -= mean
            found = found.merged(cls(len(rows), mean, rows.T @ rows))
        return found

    def merged(self, other: Moments) -> Moments:
        """Of both together (Chan, Golub and LeVeque 1979: no difference of large sums)."""
        count = self.count + other.count
        if not other.count or not self.count:
            return self if self.count else other
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        cross = np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + cross)

    def covariance(self) -> np.ndarray:
        """Unbiased, float64 (d, d); ValueError for fewer than 2 vectors."""
        if self.count < 2:
            raise ValueError(f"covariance: 2 vectors at least are wanted; there are {self.count}")
        return self.scatter / (self.count - 1)


class Mergeable(Protocol):
    """What a `Tree` can hold."""

    def merged(self, other: Self) -> Self:
        """Both together."""


M = TypeVar("M", bound=Mergeable)
Tree = dict[tuple[int, int], M]
"""(level, place) -> the merged value of leaves place * 2^level to (place + 1) * 2^level - 1.

Values are merged with their sibling of the binary tree over all leaves and with nothing else, so that floating-point
sums do not depend on which worker saw which leaf first.
"""


def add_leaf(tree: Tree[M], leaf: int, value: M) -> None:
    """Adds the value of one leaf (0, 1, ...), each once, and merges whatever is complete by it."""
    _put(tree, (0, leaf), value)


def join_trees(trees: Iterable[Tree[M]]) -> Tree[M]:
    """One tree of all; those given are left as they are."""
    joined: Tree[M] = {}
    for tree in trees:
        for place, value in tree.items():
            _put(joined, place, value)
    return joined


def whole(tree: Tree[M]) -> M:
    """The value of all leaves: what has no sibling is merged from left to right. ValueError for an empty tree."""
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
