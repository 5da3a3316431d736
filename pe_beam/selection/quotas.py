"""Shares the places of a population among the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Returns places by largest remainder (Hamilton's method), at least one each. Ties go to the earlier share.

    Args:
      shares: proportions. A (noisy) proportion below 0 counts as 0. If all are 0, the shares are equal.
      total: number of places, at least one per share.

    Raises:
      ValueError: fewer places than shares.

    >>> largest_remainder([1, 1, 1], 10)
    [4, 3, 3]
    """
    count = len(shares)
    if total < count:
        raise ValueError(f"{total} places cannot be shared among {count} labels with at least one each")
    clipped = [max(float(share), 0.0) for share in shares]
    if not sum(clipped) > 0:
        clipped = [1.0] * count
    whole = sum(clipped)
    exact = [share / whole * total for share in clipped]
    seats = [max(math.floor(x), 1) for x in exact]
    while sum(seats) != total:
        gaps = [x - seat for x, seat in zip(exact, seats, strict=True)]
        if sum(seats) < total:
            seats[max(range(count), key=lambda i: (gaps[i], -i))] += 1
        else:
            seats[min((i for i in range(count) if seats[i] > 1), key=lambda i: (gaps[i], i))] -= 1
    return seats
