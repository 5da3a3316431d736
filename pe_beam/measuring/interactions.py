"""Columns that say something only all together, as a parity does: found in noisy counts of all columns in halves.

A column's halves become numbers of mean 0 and variance 1 by its one-way shares. The mean product of some columns of a
label is then about 0 if they are independent given the label, and 1 or -1 if the half of each follows from those of the
others. For columns in two groups of equal shares these are the Walsh coefficients of the table. NumPy only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

MOST = 6
"""Columns that are found together, at most: their halves are 64 cells of each label."""
SURE = 5.0
"""Standard deviations above which a product counts; there are as many products as cells."""
LEAST = 0.08  # a product below it is worth less than what pairs tell
CLEAR = 0.25
"""Noise of finer counts of a set, at most, as a sum of absolute differences of shares."""
_RARE = 1e-3  # share of a half below which it is empty


def products(
    counts: np.ndarray, sigma: float, totals: np.ndarray, by_group: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean product of each set of columns, by label, and its standard deviation if they are independent.

    Args:
      counts: float64 (labels, halves of each column), noisy; a column may have a single half.
      sigma: standard deviation of the noise on each count.
      totals: float64 (labels,), noisy numbers of records.
      by_group: of each column float64 (labels, halves), one-way shares.

    Returns:
      float64 (labels, 2, ..., 2) both: along the axis of a column 1 if the set has it and 0 if not.
    """
    found, noise = [], []
    for label, total in enumerate(np.maximum(totals, 1.0)):
        mean, variance = counts[label] / total, np.full(counts.shape[1:], (sigma / total) ** 2)
        for axis, own in enumerate(by_group):
            factors = np.stack([np.ones(own.shape[1]), _standardised(own[label])])
            mean, variance = _along(axis, factors, mean), _along(axis, factors**2, variance)
        found.append(mean)
        noise.append(np.sqrt(variance + 1 / total))  # of the privacy noise, and of a sample of so many records
    return np.stack(found), np.stack(noise)


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
    found: np.ndarray, noise: np.ndarray, label_shares: np.ndarray, joined: Sequence[Sequence[int]] = ()
) -> dict[tuple[int, ...], float]:
    """Returns the sets of columns that say something together, and how much, the most first, which close no circle.

    A set is sure if its product is (the root of its mean square over labels), unless two of its columns say half as
    much of each other over all labels: these are left to pairs, which are counted in finer groups, and may make its
    product, as of four columns that are nearly one. So are two columns about which labels agree. A set says as much as
    all sure sets in it: the root of the sum of their squares.

    Args:
      found: mean products, as `products` returns them.
      noise: as well.
      label_shares: float64 (labels,), which add up to 1.
      joined: positions of columns that are counted together already.
    """
    size = np.indices(found.shape[1:]).sum(axis=0)
    strength = np.sqrt(np.einsum("l,l...->...", label_shares, found**2))
    bar = np.maximum(LEAST, SURE * np.sqrt(np.einsum("l,l...->...", label_shares, noise**2)))
    agreed = np.abs(np.einsum("l,l...->...", label_shares, found))
    pairs = {_columns(each): float(agreed[tuple(each)]) for each in np.argwhere(size == 2)}
    sure = {}
    for place in np.argwhere((strength > bar) & (size > 1) & (size <= MOST)):
        own, product = _columns(place), float(strength[tuple(place)])
        if max(pairs[pair] for pair in itertools.combinations(own, 2)) < product / 2:
            sure[own] = product
    scored = {own: math.hypot(*(sure.get(each, 0.0) for each in _subsets(own))) for own in sure}
    parts, taken = [set(each) for each in joined], {}
    for own in sorted(scored, key=lambda each: (-scored[each], each)):
        met = [part for part in parts if part & set(own)]
        if all(len(part & set(own)) == 1 for part in met):
            parts = [part for part in parts if part not in met] + [set(own).union(*met)]
            taken[own] = scored[own]
    return taken


def _columns(place: np.ndarray) -> tuple[int, ...]:
    """Returns the columns of the set at a place of mean products."""
    return tuple(np.flatnonzero(place).tolist())


def _subsets(columns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yields the sets of two columns and more, up to all of them."""
    for count in range(2, len(columns) + 1):
        yield from itertools.combinations(columns, count)
