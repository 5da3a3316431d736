"""Does a vector follow from its record alone, here and now? Evidence from made-up records, never from private ones.

Sensitivity rests on it (DESIGN, privacy rule 13): if one record more changed the vectors of others, it could move their
votes. Libraries that pad, mask or multiply in batches keep it on one device and dtype, and break it on another.
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

_ALONE = 4  # records that are also embedded with no other


def self_check(embedder: Embedder) -> str | None:
    """Embeds the embedder's own trial records in several companies.

    Returns:
      SHA-256 (hex) of their vectors, the same for the same model, packages and hardware; None: there is no trial.

    Raises:
      RecipeError: a vector came out otherwise beside other records, or a trial record was called faulty.
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
    """The vectors, float32 as uint32: to the last bit, and what is not a number too."""
    found = embedder.embed(records)
    if found.faults:
        raise RecipeError(f"embedder: {type(embedder).__name__} calls a trial record of its own faulty")
    return np.ascontiguousarray(found.vectors, dtype=np.float32).view(np.uint32)


def _companies(count: int) -> Iterator[np.ndarray]:
    """Rows that go through together: mixed, every other one, and some alone."""
    rows = np.arange(count)
    yield np.random.default_rng(0).permutation(count)
    yield rows[::2]
    yield rows[1::2]
    for row in np.unique(np.linspace(0, count - 1, _ALONE).astype(np.int64)):
        yield rows[row : row + 1]
