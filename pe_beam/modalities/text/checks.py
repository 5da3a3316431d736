"""Which texts can be embedded: the same rule for every embedder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_beam.contracts.embedder import Embedding
from pe_beam.contracts.record import Fault


def usable(texts: Sequence[object]) -> tuple[list[int], list[str], dict[int, Fault]]:
    """Rows that hold a text with something in it, those texts, and why the others cannot be used."""
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
    """Vectors of usable rows -> one for each of `count` rows, zero where there is a fault."""
    full = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    full[list(rows)] = vectors
    return Embedding(full, faults)
