"""Keeps embeddings of held-out records and of populations for the next evaluation, under private/.

The name of a file is a digest of everything that decides its vectors: the parts of the recipe that shape embeddings,
and the records themselves. So no file is out of date: other data, another embedder or another population has another
name. `purge` deletes the files with the rest of private/.
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
"""Vectors, float32 (n, d), and the faults of rows that cannot be used."""


def embedded(run: Run, kind: str, batch: SourceBatch, make: Callable[[], Embedded]) -> Embedded:
    """Returns the result of `make` for these records. It reads an earlier result from its file if there is one.

    Args:
      run: the run with the embedder.
      kind: the way of embedding. Another kind has another file.
      batch: the records. Their places have no effect.
      make: embeds the records.
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
    """Reads a kept file. Returns None if it is damaged, so that it is made again."""
    try:
        with np.load(io.BytesIO(run.store.read(name)), allow_pickle=False) as found:
            vectors, places, kinds = found["vectors"], found["rows"].tolist(), found["kinds"].tolist()
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        return None
    if vectors.shape != (rows, run.embedder.dimension) or vectors.dtype != np.float32:
        return None
    return vectors, {int(row): Fault(kind) for row, kind in zip(places, kinds, strict=True)}
