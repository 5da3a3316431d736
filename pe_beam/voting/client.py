"""Scales a client's votes to integers of bounded norm (DESIGN, privacy rule 1).

Votes are first summed over *all* labels. Then entry c_i becomes floor(2^b c_i / sqrt(sum c^2)). So the norm of a
client's contribution is at most 2^b, exactly. The noise is scaled by 2^b too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def client_ballot(counts: Mapping[int, int], grid_bits: int) -> dict[int, int]:
    """Returns one client's entries on the grid: floor(2^b c / sqrt(S)) = isqrt(floor(4^b c^2 / S)), S = sum c^2.

    Args:
      counts: candidate -> votes of this client, 0 or more, of any size, over all labels.
      grid_bits: b; the grid is 2^-b votes.

    Returns:
      The entries with the same keys. The sum of their squares is at most 4^b. They are all 0 if all counts are 0.

    Raises:
      ValueError: a count or grid_bits is negative.

    >>> client_ballot({4: 3, 9: 4}, grid_bits=10)
    {4: 614, 9: 819}
    """
    if grid_bits < 0 or any(count < 0 for count in counts.values()):
        raise ValueError("counts and grid_bits must be 0 or more")
    squares = {key: int(count) ** 2 for key, count in counts.items()}
    total = sum(squares.values()) or 1
    return {key: math.isqrt((square << 2 * grid_bits) // total) for key, square in squares.items()}
