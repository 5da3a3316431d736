"""Embeddings that an evaluation keeps for the next: of held-out records and of populations, under private/.

A file is named by the digest of all that its vectors follow from: what shapes embeddings in the recipe, and the very
records. So nothing is ever stale: other data, another embedder or another population is another name. `purge` deletes
them with the rest of private/.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import SourceBatch
from pe_beam.engine.run import Run
from pe_beam.evaluation.setting import FOLDER
from pe_beam.keyed import encode_fields

KEPT = f"{FOLDER}/embeddings"
_FORMAT = "pe_beam/evaluation/embeddings/1"

Embedded = tuple[np.ndarray, dict[int, Fault]]
"""Vectors, float32 (n, d), and why some of the rows cannot be used."""


def embedded(run: Run, kind: str, batch: SourceBatch, make: Callable[[], Embedded]) -> Embedded:
    """What `make` gives for these records, or gave before.

    Args:
      run: whose embedder it is.
      kind: in what way they are embedded; another one is another file.
      batch: the records; where they lie is of no account.
      make: embeds them.
    """
    name = f"{KEPT}/{_digest(run, kind, batch)}.npz"
    if run.store.exists(name):
        found = _load(run, name, len(batch.labels))
        if found is not None:
            return found
        run.store.remove(name)
    vectors, refused = make()
    rows = sorted(refused)
    sink = io.BytesIO()
    np.savez(
        sink,
        vectors=vectors,
        rows=np.array(rows, dtype=np.int64),
        kinds=np.array([refused[row].kind for row in rows], dtype=np.str_),
    )
    run.store.commit(name, sink.getvalue())
    return vectors, refused


def _digest(run: Run, kind: str, batch: SourceBatch) -> str:
    faults = [batch.faults[row].kind if row in batch.faults else None for row in range(len(batch.labels))]
    about = pa.table({"label": pa.array(batch.labels, pa.string()), "fault": pa.array(faults, pa.string())})
    sums = []
    for table in (batch.payload, about):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        sums.append(hashlib.sha256(sink.getbuffer()).digest())
    return hashlib.sha256(encode_fields(_FORMAT, run.embedding_id, kind, *sums)).hexdigest()


def _load(run: Run, name: str, rows: int) -> Embedded | None:
    """None for a file that is damaged: it is made again."""
    try:
        with np.load(io.BytesIO(run.store.read(name)), allow_pickle=False) as found:
            vectors, places, kinds = found["vectors"], found["rows"].tolist(), found["kinds"].tolist()
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        return None
    if vectors.shape != (rows, run.embedder.dimension) or vectors.dtype != np.float32:
        return None
    return vectors, {int(row): Fault(kind) for row, kind in zip(places, kinds, strict=True)}
