"""Shares from noisy counts. NumPy only."""

from __future__ import annotations

import numpy as np


def shares_of(counts: np.ndarray, total: float) -> np.ndarray:
    """Returns the shares closest to noisy counts: the Euclidean projection of counts / total on the simplex.

    Among shares of 0 or more that add up to 1, these are the most likely under Gaussian noise (Duchi et al. 2008 give
    the projection). If the total is below one record, all shares are equal.

    >>> shares_of(np.array([6.0, 5.0, -1.0]), 10.0).round(2).tolist()
    [0.55, 0.45, 0.0]
    """
    if not total >= 1:
        return np.full(len(counts), 1 / len(counts))
    values = counts / total
    order = np.sort(values)[::-1]
    above = (np.cumsum(order) - 1) / np.arange(1, len(order) + 1)
    last = np.flatnonzero(order > above)[-1]
    found = np.maximum(values - above[last], 0.0)
    return found / found.sum()


def grouped(shares: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns shares of groups of bins, float64 (labels, groups), from those of bins, float64 (labels, bins)."""
    found = np.zeros((len(shares), int(groups.max()) + 1))
    for bin_, group in enumerate(groups.tolist()):
        found[:, group] += shares[:, bin_]
    return found
