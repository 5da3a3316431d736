"""The file of a frozen shard: Parquet, one row for each usable record.

A vector is kept as bytes (float32, little endian). As a list it would have two levels for each of its numbers, and
decoding those takes ten times as long as reading the numbers. Shards of older versions have lists; they are read too.
"""

from __future__ import annotations

from typing import IO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.voting.votes import read_batch

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)
_NUMBER = np.dtype("<f4")


def shard_schema(dimension: int, *, by_client: bool) -> pa.Schema:
    """Returns the columns of a shard: label (position), vector as bytes and, with `by_client`, client."""
    fields = [("label", pa.int32()), ("vector", pa.binary(_NUMBER.itemsize * dimension))]
    return pa.schema([*fields, ("client", pa.string())] if by_client else fields)


def shard_writer(sink: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """Returns a writer of shards. What it writes depends on the rows alone, and not on the batches they come in.

    Dictionaries and compression save nothing on float32 vectors, and cost the vote stage time at every read. The size
    of a page is looked at after each row: after more, where a page ends would depend on where a batch ends.
    """
    return pq.ParquetWriter(
        sink, schema, compression="none", use_dictionary=False, write_statistics=False, write_batch_size=1
    )


def packed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns a batch with the vectors of `voting.records.vector_schema` as a shard keeps them."""
    vectors = read_batch(batch)[0]
    buffer = pa.py_buffer(np.ascontiguousarray(vectors, dtype=_NUMBER))
    kind = pa.binary(_NUMBER.itemsize * vectors.shape[1])
    return _with_vectors(batch, pa.Array.from_buffers(kind, len(vectors), [None, buffer]))


def listed(rows: Rows) -> Rows:
    """Returns rows of a shard with vectors as lists, as `voting.votes.read_batch` takes them; numbers are not copied.

    Raises:
      ValueError: a vector is null.
    """
    column = rows["vector"].combine_chunks() if isinstance(rows, pa.Table) else rows["vector"]
    if not pa.types.is_fixed_size_binary(column.type):
        return rows
    if column.null_count:
        raise ValueError("vector: nulls are not allowed")
    dimension = dimension_of(rows.schema)
    start, count = column.offset * dimension, len(column) * dimension
    numbers = pa.Array.from_buffers(pa.float32(), count, [None, column.buffers()[1]], offset=start)
    return _with_vectors(rows, pa.FixedSizeListArray.from_arrays(numbers, dimension))


def dimension_of(schema: pa.Schema) -> int:
    """Returns the number of dimensions of the vectors of a shard."""
    kind = schema.field("vector").type
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width) // _NUMBER.itemsize
    return int(kind.list_size)


def _with_vectors(rows: Rows, column: pa.Array) -> Rows:
    return rows.set_column(rows.schema.get_field_index("vector"), "vector", column)
