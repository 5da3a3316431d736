"""How many places each label gets."""

from __future__ import annotations

import math
from collections.abc import Sequence


def largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    """Places by largest remainder (Hamilton's method), at least one each; ties go to the earlier.

    Args:
      shares: proportions; noisy ones below 0 count as 0, and all 0 means equal shares.
      total: places to give, at least one a share.

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
