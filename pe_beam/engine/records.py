"""Records that a pipeline of the user's own yields: which piece each belongs to, and the records of a piece.

A piece is `SHARD_ROWS` rows of one source. So the cut follows from the columns `source` and `row` alone, and no bundle,
worker or order of arrival can change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts import source as base
from pe_beam.contracts.source import ROW, SOURCE, Piece
from pe_beam.errors import DataError

Place = tuple[str, int]
"""A source, and the number of a range of `SHARD_ROWS` rows."""


def split_batch(batch: Any) -> Iterator[tuple[Place, bytes]]:
    """Yields the rows of a batch by their places, as Arrow IPC streams.

    Raises:
      DataError: it is no Arrow batch, or its columns `source` and `row` are missing or of a wrong type.
    """
    if not isinstance(batch, pa.RecordBatch | pa.Table):
        raise DataError("data.path: the pipeline yields something that is no Arrow batch; RecordBatches are wanted")
    table = pa.table(batch) if isinstance(batch, pa.RecordBatch) else batch
    for name, is_type, wanted in (
        (SOURCE, lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "text"),
        (ROW, pa.types.is_integer, "whole numbers from 0 on"),
    ):
        if table.column_names.count(name) != 1 or not is_type(table[name].type) or table[name].null_count:
            raise DataError(f"data.path: the batches of the pipeline need one column {name} of {wanted}, without nulls")
    if not len(table):
        return
    rows = table[ROW].cast(pa.int64(), safe=False).to_numpy()
    if rows.min() < 0:
        raise DataError(
            f"data.path: the column {ROW} of the pipeline has a number below 0; whole numbers from 0 on are wanted"
        )
    codes = table[SOURCE].cast(pa.large_string()).combine_chunks().dictionary_encode()
    names, blocks = codes.dictionary.to_pylist(), rows // base.SHARD_ROWS
    keys = np.stack([codes.indices.to_numpy(), blocks], axis=1)
    places, which = np.unique(keys, axis=0, return_inverse=True)
    for at, (code, block) in enumerate(places.tolist()):
        yield (names[code], block), _packed(table.take(pa.array(np.flatnonzero(which.ravel() == at))))


def join_records(place: Place, parts: Iterable[bytes]) -> tuple[Piece, pa.Table]:
    """Returns a piece and its records, sorted by rows.

    Raises:
      DataError: a row comes twice, or batches have different columns.
    """
    source, block = place
    try:
        table = pa.concat_tables(pa.ipc.open_stream(part).read_all() for part in sorted(parts))
    except pa.ArrowException:
        raise DataError(
            "data.path: batches of the pipeline differ in their columns; the same in all are wanted"
        ) from None
    table = table.take(pc.sort_indices(table, sort_keys=[(ROW, "ascending")]))
    rows = table[ROW].cast(pa.int64()).to_numpy()
    if (rows[1:] == rows[:-1]).any():
        raise DataError(
            f"data.path: the pipeline yields a pair of {SOURCE} and {ROW} twice; each record has one of its own"
        )
    number = int.from_bytes(hashlib.sha256(source.encode("utf-8", "backslashreplace")).digest()[:16])
    start = block * base.SHARD_ROWS
    return Piece(source, number, start, start + base.SHARD_ROWS), table


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
