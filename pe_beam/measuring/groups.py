"""Groups of bins that have about equal shares of the records, by noisy shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def equal_mass(shares: np.ndarray, ordered: int, most: int) -> np.ndarray:
    """Returns the group of each bin, int64 (bins,): at most `most` groups of about equal mass.

    Bins that lie in an order are grouped with their neighbours. Categories are grouped by share, the rarest together. A
    bin of missing values beside ordered bins is a group of its own.

    Args:
      shares: float64 (bins,), noisy shares of 0 or more.
      ordered: how many of the first bins lie in an order: all but missing values for numbers, 0 for categories.
      most: 2 or more. Missing values beside ordered bins have one more.

    >>> equal_mass(np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]), 6, 3).tolist()
    [0, 1, 1, 2, 2, 2]
    >>> equal_mass(np.array([0.1, 0.6, 0.1, 0.2]), 0, 3).tolist()
    [2, 0, 2, 1]
    """
    if ordered:
        found = _runs(shares[:ordered].tolist(), most)
        return np.concatenate([found, found[-1] + 1 + np.arange(len(shares) - ordered)])
    if len(shares) <= most:
        return np.arange(len(shares))
    order = np.argsort(-shares, kind="stable")
    groups = np.empty(len(shares), dtype=np.int64)
    groups[order] = _runs(shares[order].tolist(), most)
    return groups


def _runs(shares: Sequence[float], most: int) -> np.ndarray:
    """Returns groups of neighbouring bins, int64 (bins,). A group is closed where the next bin would overfill it."""
    if len(shares) <= most:
        return np.arange(len(shares))
    found, group, own, left = [], 0, 0.0, sum(shares)
    target = left / most
    for share in shares:
        if own and own + share / 2 > target and group < most - 1:
            left -= own
            group, own = group + 1, 0.0
            target = left / (most - group)
        found.append(group)
        own += share
    return np.array(found, dtype=np.int64)
