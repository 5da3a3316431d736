"""Chooses bounded subsamples that are the same on every machine, by position, before any record is read."""

from __future__ import annotations

import functools

import numpy as np

from pe_beam.keyed import keyed_rng

REAL_ROWS = 50_000
"""Largest number of records of a kind (held-out, training, a population) that are kept in memory."""


@functools.lru_cache(maxsize=16)
def chosen_rows(total: int, most: int, purpose: str) -> np.ndarray:
    """Returns the positions of a uniform subsample without replacement, int64 (min(total, most),), ascending.

    Args:
      total: number of records.
      most: largest number of positions.
      purpose: a short literal. Another literal gives another subsample.

    >>> chosen_rows(3, 5, "x").tolist()
    [0, 1, 2]
    >>> len(set(chosen_rows(1000, 10, "x").tolist()))
    10
    """
    if total <= most:
        rows = np.arange(total, dtype=np.int64)
    else:
        rng = keyed_rng(0, 0, -1, f"evaluate/{purpose}")
        rows = np.sort(rng.choice(total, size=most, replace=False, shuffle=False))
    rows.flags.writeable = False
    return rows


def chosen_of_range(total: int, most: int, purpose: str, start: int, stop: int) -> np.ndarray:
    """Returns the positions of `chosen_rows` that are at least `start` and less than `stop`."""
    rows = chosen_rows(total, most, purpose)
    return rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]
