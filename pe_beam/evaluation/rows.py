"""Rows that an evaluation uses, and the files of the subsamples that portions leave for the metrics."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.engine.run import Run
from pe_beam.engine.tables import load_array
from pe_beam.evaluation.setting import WORK
from pe_beam.storage.parquet import read_parquet
from pe_beam.subsamples import chosen_rows
from pe_beam.voting.votes import read_batch


@dataclass(frozen=True)
class Rows:
    """Records that can be used.

    Attributes:
      vectors: float32 (n, d).
      codes: int32 (n,), positions in the declared list of labels.
      rows: int64 (n,), rows of the group, ascending.
      payload: n rows, if a metric of the modality needs them.
    """

    vectors: np.ndarray
    codes: np.ndarray
    rows: np.ndarray
    payload: pa.Table | None = None


def subsample(rows: Rows, most: int, total: int) -> Rows:
    """Returns the rows that are in the subsample."""
    keep = np.isin(rows.rows, chosen_rows(total, most, "rows"), assume_unique=True)
    if keep.all():
        return rows
    payload = None if rows.payload is None else rows.payload.filter(pa.array(keep))
    return Rows(rows.vectors[keep], rows.codes[keep], rows.rows[keep], payload)


def _vector_table(rows: Rows, dimension: int) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(rows.vectors, dtype=np.float32).ravel(), pa.float32())
    columns = [pa.array(rows.codes, pa.int32()), pa.array(rows.rows, pa.int64())]
    return pa.table([*columns, pa.FixedSizeListArray.from_arrays(flat, dimension)], ["label", "row", "vector"])


def save_rows(run: Run, name: str, kept: Sequence[Rows]) -> None:
    """Keeps vectors, label codes and places of rows of a portion. Without rows nothing is written."""
    if kept:
        _save(run, f"{name}.vectors", pa.concat_tables(_vector_table(rows, run.embedder.dimension) for rows in kept))


def save_payload(run: Run, name: str, payload: pa.Table, vectors: np.ndarray) -> None:
    """Keeps the content of rows of a portion with their vectors, for metrics of the modality."""
    _save(run, f"{name}.payload", payload)
    sink = io.BytesIO()
    np.save(sink, vectors)
    run.store.commit(f"{WORK}/{name}.payload.npy", sink.getvalue(), replace=True)


def _save(run: Run, name: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="none", use_dictionary=False)
    run.store.commit(f"{WORK}/{name}.parquet", sink.getvalue(), replace=True)


def gathered_files(run: Run, group: str, ending: str = "") -> list[str]:
    """Returns the sorted names of the files that were gathered for a group."""
    return [name for name in run.store.list_files(f"{WORK}/{group}") if name.endswith(ending)]


def load_rows(run: Run, group: str) -> Rows:
    """Returns the subsample of a group. It is the whole group if this has at most `REAL_ROWS` records."""
    files = gathered_files(run, group, ".vectors.parquet")
    table = pa.concat_tables([read_parquet(run.store, file) for file in files]).combine_chunks()
    if not table.num_rows:
        return Rows(np.empty((0, run.embedder.dimension), np.float32), np.empty(0, np.int32), np.empty(0, np.int64))
    vectors, codes, _ = read_batch(table)
    return Rows(vectors, codes, table["row"].to_numpy())


def load_payload(run: Run, group: str) -> tuple[pa.Table, np.ndarray] | None:
    """Returns the payload and vectors of the smaller subsample, for the modality's own metrics; None without one."""
    files = gathered_files(run, group, ".payload.parquet")
    if not files:
        return None
    table = pa.concat_tables([read_parquet(run.store, file) for file in files]).combine_chunks()
    vectors = np.concatenate([load_array(run.store.read(f"{file.removesuffix('.parquet')}.npy")) for file in files])
    return table.select(["label", *run.modality.payload.names]), vectors
