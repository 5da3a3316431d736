"""Checks that a vector depends on its record alone, on this device. It uses made-up records, never private ones.

Sensitivity depends on it (DESIGN, privacy rule 13): if an additional record changed the vectors of others, it could
change their votes. Libraries that pad, mask or multiply in batches can be right on one device and dtype, and wrong on
another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pe_beam.errors import RecipeError

if TYPE_CHECKING:
    from pe_beam.contracts.embedder import Embedder

_ALONE = 4  # number of records that are also embedded alone


def self_check(embedder: Embedder) -> str | None:
    """Embeds the embedder's own trial records in several combinations.

    Returns:
      SHA-256 (hex) of their vectors, the same for the same model, packages and hardware; None: there is no trial.

    Raises:
      RecipeError: a vector changed with the other records of the batch, or a trial record was reported as a fault.
    """
    records = embedder.trial()
    if records is None:
        return None
    whole = _bits(embedder, records)
    for rows in _companies(records.num_rows):
        if not np.array_equal(_bits(embedder, records.take(pa.array(rows))), whole[rows]):
            raise RecipeError(
                f"embedder: {type(embedder).__name__} gives a made-up record another vector beside other records, on "
                "this device and with these options, so that one private record could move the votes of others; "
                "another dtype, batch size, device or embedder is wanted"
            )
    told = f"pe_beam/selfcheck/1 {whole.shape}".encode()
    return hashlib.sha256(told + whole.astype("<u4").tobytes()).hexdigest()


def _bits(embedder: Embedder, records: pa.Table) -> np.ndarray:
    """Returns the bits of the float32 vectors as uint32, so that they compare exactly, NaN included."""
    found = embedder.embed(records)
    if found.faults:
        raise RecipeError(f"embedder: {type(embedder).__name__} calls a trial record of its own faulty")
    return np.ascontiguousarray(found.vectors, dtype=np.float32).view(np.uint32)


def _companies(count: int) -> Iterator[np.ndarray]:
    """Yields rows that are embedded together: all in a mixed order, every second one, and some alone."""
    rows = np.arange(count)
    yield np.random.default_rng(0).permutation(count)
    yield rows[::2]
    yield rows[1::2]
    for row in np.unique(np.linspace(0, count - 1, _ALONE).astype(np.int64)):
        yield rows[row : row + 1]
