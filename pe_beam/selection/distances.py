"""Squared distances between many vectors, some at a time, with the bits that NumPy's sum of a row has.

NumPy adds up a row by halves down to 128 numbers, and these in eight lanes: numbers 8 apart are added one after the
other, then the lanes. Whoever adds in that order has the same bits, whatever is in memory at a time, and whatever is
added once for several rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

Sum = TypeVar("Sum", np.ndarray, list[range])

_LEAF, _LANES = 128, 8  # of NumPy's pairwise summation
_COORDINATES = 1 << 16  # of differences at a time: they fit into the cache of a core
_MANY = 256  # rows, from which it pays to look for coordinates that they share
_SHARED = 0.25  # share of the work that may be left then; more is hardly quicker than one by one


def in_halves(places: range, total: Callable[[range], Sum]) -> Sum:
    """Returns the sum over places in NumPy's order; `total` sums 128 of them at most."""
    if len(places) <= _LEAF:
        return total(places)
    half = len(places) // 2 // _LANES * _LANES
    return in_halves(places[:half], total) + in_halves(places[half:], total)


class SquaredDistances:
    """Squared Euclidean distances of some vectors to others. It uses no BLAS: bits are the same on any threads.

    Vectors of tables are mostly 0, with few values elsewhere: in the coordinates of a lane many rows are equal, and
    what these coordinates add is computed once for all of them.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        """Takes float32 (n, d)."""
        self._vectors = vectors
        self._lanes = _shared_lanes(vectors) if len(vectors) >= _MANY else None

    def to(self, others: np.ndarray) -> np.ndarray:
        """Returns the distances to other vectors, float32 (m, d), as float64 (n, m)."""
        wide = others.astype(np.float64)
        if self._lanes is None:
            return self._one_by_one(wide)
        columns = np.ascontiguousarray(wide.T)
        return in_halves(range(len(columns)), lambda leaf: self._by_lanes(leaf, columns))

    def _one_by_one(self, others: np.ndarray) -> np.ndarray:
        """Subtracts each of the others from as many vectors at a time as the cache takes."""
        found = np.empty((len(self._vectors), len(others)))
        some = max(_COORDINATES // max(others.shape[1], 1), 1)
        for start in range(0, len(found), some):
            own = self._vectors[start : start + some].astype(np.float64)
            apart = np.empty_like(own)
            for j, other in enumerate(others):
                np.subtract(own, other, out=apart)
                np.square(apart, out=apart)
                apart.sum(axis=1, out=found[start : start + some, j])
        return found

    def _by_lanes(self, leaf: range, columns: np.ndarray) -> np.ndarray:
        """Returns what the coordinates of a leaf add to the distances to columns (d, m), as float64 (n, m)."""
        assert self._lanes is not None
        own = [self._lanes[lane] for lane in _lanes_of(leaf)]
        sums = [_lane_sums(lane.values, columns[lane.coordinates]) for lane in own]
        found = np.empty((len(self._vectors), columns.shape[1]))
        some = max(_COORDINATES // max(columns.shape[1], 1), 1)
        for start in range(0, len(found), some):
            rows = slice(start, start + some)
            found[rows] = _joined([each[lane.kinds[rows]] for lane, each in zip(own, sums, strict=True)])
        return found


class _Lane(NamedTuple):
    """Coordinates that are added one after the other: their distinct values, float64 (kinds, n), and whose they are."""

    coordinates: slice
    values: np.ndarray
    kinds: np.ndarray


def _shared_lanes(vectors: np.ndarray) -> dict[range, _Lane] | None:
    """Returns the lanes of vectors by their coordinates; None if too few are equal for it to pay."""
    found, left = {}, 0
    for lane in in_halves(range(vectors.shape[1]), _lanes_of):
        coordinates = slice(lane.start, lane.stop, lane.step)
        values, kinds = np.unique(vectors[:, coordinates], axis=0, return_inverse=True)
        found[lane] = _Lane(coordinates, values.astype(np.float64), kinds.ravel())
        left += values.size
        if left > _SHARED * vectors.size:
            return None
    return found


def _lanes_of(leaf: range) -> list[range]:
    """Returns the coordinates that are added one after the other: eight lanes and what is left, or all of a few."""
    if len(leaf) < _LANES:
        return [leaf]
    whole = len(leaf) // _LANES * _LANES
    return [*(leaf[lane:whole:_LANES] for lane in range(_LANES)), *(leaf[i : i + 1] for i in range(whole, len(leaf)))]


def _lane_sums(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns the squared distances in a lane, float64 (kinds, m), of values (kinds, n) to columns (n, m)."""
    total = np.square(values[:, :1] - columns[0])
    for i in range(1, len(columns)):
        total += np.square(values[:, i : i + 1] - columns[i])
    return total


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Adds up the sums of the lanes of a leaf, and then what is left."""
    if len(parts) < _LANES:
        return parts[0]
    a, b, c, d, e, f, g, h, *rest = parts
    total: np.ndarray = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for each in rest:
        total += each
    return total
