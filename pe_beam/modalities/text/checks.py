"""The rule for texts that can be embedded. It is the same for every embedder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_beam.contracts.embedder import Embedding
from pe_beam.contracts.record import Fault


def usable(texts: Sequence[object]) -> tuple[list[int], list[str], dict[int, Fault]]:
    """Returns the rows with a text that is not blank, these texts, and the faults of the other rows."""
    rows: list[int] = []
    good: list[str] = []
    faults: dict[int, Fault] = {}
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            faults[row] = Fault("text that is missing")
        elif not text.strip():
            faults[row] = Fault("text that is empty")
        else:
            rows.append(row)
            good.append(text)
    return rows, good, faults


def spread(vectors: np.ndarray, rows: Sequence[int], count: int, faults: dict[int, Fault]) -> Embedding:
    """Places vectors of usable rows in an embedding of `count` rows. Rows with a fault are zero."""
    full = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    full[list(rows)] = vectors
    return Embedding(full, faults)
