"""Turns private records into the vectors that vote, and decides record by record which of them abstain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from pe_beam.contracts.embedder import Embedding, checked_vectors
from pe_beam.contracts.record import Fault
from pe_beam.names import Declared
from pe_beam.voting.nearest import normalise_rows


def embed_rows(
    embed: Callable[[pa.Table], Embedding],
    dimension: int,
    payload: pa.Table,
    labels: Sequence[str | None],
    clients: Sequence[str | None],
    *,
    codes: Mapping[str | None, int],
    by_client: bool,
    distance: str,
    faults: Mapping[int, Fault] | None = None,
) -> tuple[np.ndarray, dict[int, Fault]]:
    """Returns the vectors of all rows, and why some rows cannot be used. Each row is judged by itself.

    Args:
      embed: `Embedder.embed`. It gets usable rows only.
      dimension: d.
      payload: n rows.
      labels: n labels, as text.
      clients: n client ids, as text; None for a record without one.
      codes: declared label -> its position.
      by_client: whether a record needs a client id.
      distance: for "cosine" the vectors are normalised, and a vector of length zero is a reject.
      faults: rows that could not be read at all.

    Returns:
      float32 (n, d), which is zero in rows that cannot be used, and row -> Fault.

    Raises:
      StageError: `embed` does not return float32 (rows, d).
    """
    faults = dict(faults or {})
    declared: Declared | None = None
    for row, label in enumerate(labels):
        if row not in faults and label not in codes:
            declared = declared or Declared(name for name in codes if name is not None)
            faults[row] = Fault("label that is not declared in data.labels", label or "", declared.variety(label))
        if row not in faults and by_client and clients[row] is None:
            faults[row] = Fault("missing client id")
    usable = [row for row in range(len(labels)) if row not in faults]
    vectors = np.zeros((len(labels), dimension), dtype=np.float32)
    if usable:
        embedded = embed(payload.take(pa.array(usable, pa.int64())))
        vectors[usable] = checked_vectors(embedded, len(usable), dimension)
        faults |= {usable[row]: fault for row, fault in embedded.faults.items()}
    for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        faults.setdefault(row, Fault("embedding that is not finite"))
        vectors[row] = 0
    if distance == "cosine":
        vectors, zero = normalise_rows(vectors)
        for row in np.flatnonzero(zero).tolist():
            faults.setdefault(row, Fault("embedding of length zero"))
    return vectors, faults


def vector_schema(dimension: int, *, by_client: bool) -> pa.Schema:
    """Returns the columns of embedded records: label (position), vector and, with `by_client`, client."""
    fields = [("label", pa.int32()), ("vector", pa.list_(pa.float32(), dimension))]
    return pa.schema([*fields, ("client", pa.string())] if by_client else fields)


def vector_batch(
    vectors: np.ndarray,
    labels: Sequence[str | None],
    clients: Sequence[str | None] | None,
    faults: Mapping[int, Fault],
    codes: Mapping[str | None, int],
) -> pa.RecordBatch:
    """Returns the usable rows as a batch for `Vote`.

    Args:
      vectors: float32 (n, d).
      labels: n labels, as text.
      clients: n client ids; None if the unit is the record.
      faults: rows that are left out.
      codes: declared label -> its position.
    """
    good = [row for row in range(len(labels)) if row not in faults]
    kept = np.ascontiguousarray(vectors[good])
    columns = [
        pa.array([codes[labels[row]] for row in good], pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(kept.ravel(), pa.float32()), vectors.shape[1]),
    ]
    if clients is not None:
        columns.append(pa.array([clients[row] for row in good], pa.string()))
    schema = vector_schema(vectors.shape[1], by_client=clients is not None)
    return pa.RecordBatch.from_arrays([c.cast(t) for c, t in zip(columns, schema.types, strict=True)], schema=schema)
