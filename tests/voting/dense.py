"""A client's votes on all candidates, as an array."""

from __future__ import annotations

import numpy as np

from pe_beam.voting.client import client_ballot


def scale_client(counts: np.ndarray, grid_bits: int) -> np.ndarray:
    """Returns `client_ballot` of one client's dense counts: int64 (m,) -> int64 (m,)."""
    ballot = client_ballot(dict(enumerate(counts.tolist())), grid_bits)
    return np.array(list(ballot.values()), dtype=np.int64)
