"""One client's vote: whole numbers whose norm is bounded exactly (privacy rule 1)."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt


def client_ballot(counts: Mapping[int, int], grid_bits: int) -> dict[int, int]:
    """Entry i becomes floor(2^b c_i / sqrt(sum c^2)), by integer square root: norm at most 2^b, exactly.

    Args:
      counts: candidate -> votes of all records of the client, over all labels; above 0.
      grid_bits: b.

    >>> client_ballot({0: 3, 5: 4}, 8)
    {0: 153, 5: 204}
    """
    total = sum(count * count for count in counts.values())
    return {row: isqrt((count * count << 2 * grid_bits) // total) for row, count in counts.items() if count}
