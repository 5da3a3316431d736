"""Columns that say something only all together, as a parity does: found in noisy counts of all columns in halves.

A column's halves become numbers of mean 0 and variance 1 by its one-way shares. The mean product of some columns of a
label is then about 0 if they are independent given the label, and 1 or -1 if the half of each follows from those of the
others. For columns in two groups of equal shares these are the Walsh coefficients of the table. NumPy only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pe_beam.measuring.shares import shares_of

MOST = 6
"""Columns that are found together, at most: their halves are 64 cells of each label."""
SURE = 5.0
"""Standard deviations above which a product counts; there are as many products as cells."""
LEAST = 0.08  # a product below it is worth less than what pairs tell
CLEAR = 0.25
"""Noise of finer counts of a set, at most, as a sum of absolute differences of shares."""
BLURRED = 0.05
"""Noise of the halves of a set, as such a sum, above which they are counted once more."""
_RARE = 1e-3  # share of a half below which it is empty


class Product(NamedTuple):
    """The mean product of the halves of some columns.

    Attributes:
      strength: the root of its mean square over labels.
      bar: a strength above it is sure.
      agreed: the absolute value of its mean over labels.
    """

    strength: float
    bar: float
    agreed: float


def blocks(columns: int, most: int | None) -> list[tuple[int, ...]]:
    """Returns sets of at most so many columns, such that any three columns are in one of them; None: all at once.

    Columns are cut into parts of a third of a set; a set is what three of the parts have. `most` is a multiple of 3.

    >>> blocks(4, None), blocks(5, 3)[-2:], len(blocks(12, 6))
    ([(0, 1, 2, 3)], [(1, 3, 4), (2, 3, 4)], 20)
    """
    if most is None or most >= columns:
        return [tuple(range(columns))]
    starts = range(0, columns, most // 3)
    parts = [tuple(range(start, min(start + starts.step, columns))) for start in starts]
    return [first + second + third for first, second, third in itertools.combinations(parts, 3)]


def products(
    counts: np.ndarray, sigma: float, totals: np.ndarray, by_group: Sequence[np.ndarray]
) -> dict[tuple[int, ...], Product]:
    """Returns the mean product of each set of two to `MOST` columns.

    Args:
      counts: float64 (labels, halves of each column), noisy; a column may have a single half.
      sigma: standard deviation of the noise on each count.
      totals: float64 (labels,), noisy numbers of records.
      by_group: of each column float64 (labels, halves), one-way shares.
    """
    found, noise = [], []
    for label, total in enumerate(np.maximum(totals, 1.0)):
        mean, variance = counts[label] / total, np.full(counts.shape[1:], (sigma / total) ** 2)
        for axis, own in enumerate(by_group):
            factors = np.stack([np.ones(own.shape[1]), _standardised(own[label])])
            mean, variance = _along(axis, factors, mean), _along(axis, factors**2, variance)
        found.append(mean)
        noise.append(np.sqrt(variance + 1 / total))  # of the privacy noise, and of a sample of so many records
    # (labels, 2, ..., 2): along the axis of a column 1 if the set has it and 0 if not
    means, label_shares = np.stack(found), shares_of(totals, float(totals.sum()))
    strength = np.sqrt(np.einsum("l,l...->...", label_shares, means**2))
    bar = np.maximum(LEAST, SURE * np.sqrt(np.einsum("l,l...->...", label_shares, np.stack(noise) ** 2)))
    agreed = np.abs(np.einsum("l,l...->...", label_shares, means))
    size = np.indices(strength.shape).sum(axis=0)
    places = np.argwhere((size > 1) & (size <= MOST))
    sets = (tuple(np.flatnonzero(place).tolist()) for place in places)
    at = tuple(places.T)
    told = zip(strength[at].tolist(), bar[at].tolist(), agreed[at].tolist(), strict=True)
    return {own: Product(*each) for own, each in zip(sets, told, strict=True)}


def _along(axis: int, factors: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns values multiplied by factors along an axis, without BLAS: the bits are the same for all threads."""
    found: np.ndarray = np.moveaxis(np.einsum("kg,g...->k...", factors, np.moveaxis(values, axis, 0)), 0, axis)
    return found


def _standardised(shares: np.ndarray) -> np.ndarray:
    """Returns two numbers of mean 0 and variance 1 by the shares of two halves; 0 where one half is (nearly) all."""
    if len(shares) < 2 or shares.min() < _RARE:
        return np.zeros(len(shares))
    return np.array([-np.sqrt(shares[1] / shares[0]), np.sqrt(shares[0] / shares[1])])


def together(
    products: Mapping[tuple[int, ...], Product], joined: Sequence[Sequence[int]] = ()
) -> dict[tuple[int, ...], float]:
    """Returns the sets of columns that say something together, and how much, the most first, which close no circle.

    A set is sure if its product is (the root of its mean square over labels), unless two of its columns say half as
    much of each other over all labels: these are left to pairs, which are counted in finer groups, and may make its
    product, as of four columns that are nearly one. So are two columns about which labels agree. A set says as much as
    all sure sets in it: the root of the sum of their squares.

    Args:
      products: by set of columns, in ascending order.
      joined: positions of columns that are counted together already.
    """
    sure = {
        own: each.strength
        for own, each in products.items()
        if each.strength > each.bar
        and max(products[pair].agreed for pair in itertools.combinations(own, 2)) < each.strength / 2
    }
    scored = {own: math.hypot(*(sure.get(each, 0.0) for each in _subsets(own))) for own in sure}
    parts, taken = [set(each) for each in joined], {}
    for own in sorted(scored, key=lambda each: (-scored[each], each)):
        met = [part for part in parts if part & set(own)]
        if all(len(part & set(own)) == 1 for part in met):
            parts = [part for part in parts if part not in met] + [set(own).union(*met)]
            taken[own] = scored[own]
    return taken


def _subsets(columns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields the sets of two columns and more, up to all of them."""
    for count in range(2, len(columns) + 1):
        yield from itertools.combinations(columns, count)
