"""A client's votes as integers of bounded norm (DESIGN, privacy rule 1).

Votes are first summed over *all* labels; then entry c_i becomes floor(2^b c_i / sqrt(sum c^2)), so that the norm
of what a client adds is at most 2^b, exactly, and the noise is scaled by 2^b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

_MOST_BITS = 62  # an entry of 2^62 still fits int64


def client_ballot(counts: Mapping[int, int], grid_bits: int) -> dict[int, int]:
    """One client's entries on the grid: floor(2^b c / sqrt(S)) = isqrt(floor(4^b c^2 / S)), S = sum c^2.

    Args:
      counts: candidate -> votes of this client, 0 or more, of any size, over all labels.
      grid_bits: b; the grid is 2^-b votes.

    Returns:
      The same keys; sum of squares at most 4^b. All 0 where all counts are 0.

    Raises:
      ValueError: a negative count or grid_bits.

    >>> client_ballot({4: 3, 9: 4}, grid_bits=10)
    {4: 614, 9: 819}
    """
    if grid_bits < 0 or any(count < 0 for count in counts.values()):
        raise ValueError("counts and grid_bits must be 0 or more")
    squares = {key: int(count) ** 2 for key, count in counts.items()}
    total = sum(squares.values()) or 1
    return {key: math.isqrt((square << 2 * grid_bits) // total) for key, square in squares.items()}


def scale_client(counts: np.ndarray, grid_bits: int) -> np.ndarray:
    """`client_ballot` of one client's dense counts: int64 (m,) -> int64 (m,).

    Raises:
      ValueError: a negative count, or grid_bits outside 0 to 62.

    >>> scale_client(np.array([1, 0, 1]), grid_bits=4)
    array([11,  0, 11])
    """
    if grid_bits > _MOST_BITS:
        raise ValueError(f"grid_bits: {grid_bits} is not in 0 to {_MOST_BITS}")
    voted = np.flatnonzero(counts)
    ballot = client_ballot(dict(zip(voted.tolist(), counts[voted].tolist(), strict=True)), grid_bits)
    scaled = np.zeros(counts.shape, dtype=np.int64)
    scaled[voted] = [ballot[key] for key in voted.tolist()]
    return scaled
