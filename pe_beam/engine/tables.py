"""Writes and reads Parquet with equal bytes for equal content: one writer, fixed row groups, fixed metadata."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.store import Store
from pe_beam.storage.parquet import damage_named, parse_parquet

FORMAT_VERSION = 1
ROW_GROUP = 1024
_AGAIN = "delete it, and `run` makes it again"
_LONGEST_HEAD = 10 + (1 << 16)  # bytes: the header of NumPy's format, version 1.0, is at most so long

HISTOGRAM = pa.schema([("candidate_id", pa.int64()), ("label", pa.string()), ("noisy_votes", pa.float64())])
COUNTS = pa.schema([("candidate_id", pa.int64()), ("label", pa.string()), ("count", pa.int64())])
LABELS = pa.schema([("label", pa.string()), ("noisy_count", pa.float64())])
MARGINALS = pa.schema(
    [("label", pa.string()), ("column", pa.string()), ("bin", pa.int64()), ("noisy_count", pa.float64())]
)
MARGINALS_AND_PAIRS = pa.schema(
    [*list(MARGINALS)[:3], ("other", pa.string()), ("other_bin", pa.int64()), ("noisy_count", pa.float64())]
)
"""Of a pair of columns `label` is null, and the bins are groups of bins."""
COUNTED = pa.schema(
    [
        ("label", pa.string()),
        ("columns", pa.list_(pa.string())),
        ("groups", pa.list_(pa.int64())),
        ("noisy_count", pa.float64()),
    ]
)
"""Of a step of `privacy.measure`: `label` is null over all labels, and groups are those of its `asked` file."""


def population_schema(payload: pa.Schema) -> pa.Schema:
    """Returns the columns of a population: ids, label, origin and state, then the modality's payload."""
    return pa.schema(
        [
            ("candidate_id", pa.int64()),
            ("parent_id", pa.int64()),
            ("label", pa.string()),
            ("origin", pa.string()),
            ("state", pa.string()),
            *payload,
        ]
    )


def write_table(
    file: BinaryIO,
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    *,
    notice: str | None = None,
    checksums: bool = False,
) -> int:
    """Writes tables one after the other as one Parquet file, and returns its number of rows.

    Row groups have ROW_GROUP rows for all sizes of the given tables, so chunks do not affect the bytes. The file bears
    the notice of a release that is NOT PRIVATE. With `checksums` each page has its own, for files without a manifest.
    """
    own = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    metadata = own | {"pe_beam.format": str(FORMAT_VERSION)} | ({} if notice is None else {"pe_beam.privacy": notice})
    rows = 0
    pending: list[pa.Table] = []
    waiting = 0
    with pq.ParquetWriter(
        file, schema.with_metadata(metadata), compression="zstd", write_page_checksum=checksums
    ) as writer:

        def flush(least: int) -> None:
            nonlocal pending, waiting
            if waiting < least or not waiting:
                return
            table = pa.concat_tables(pending).combine_chunks()
            full = waiting if least == 1 else waiting - waiting % ROW_GROUP
            for start in range(0, full, ROW_GROUP):
                writer.write_table(
                    table.slice(start, min(ROW_GROUP, full - start)).combine_chunks(),
                    row_group_size=ROW_GROUP,
                )
            pending, waiting = [table.slice(full)], waiting - full

        for table in tables:
            pending.append(table.select(schema.names).cast(schema).replace_schema_metadata(metadata))
            waiting += table.num_rows
            rows += table.num_rows
            flush(ROW_GROUP)
        flush(1)
    return rows


def table_bytes(table: pa.Table, schema: pa.Schema, *, notice: str | None = None, checksums: bool = False) -> bytes:
    """Returns one small table as Parquet bytes; arguments as in `write_table`."""
    sink = io.BytesIO()
    write_table(sink, [table], schema, notice=notice, checksums=checksums)
    return sink.getvalue()


def read_bytes(data: bytes) -> pa.Table:
    """Reads a table from Parquet bytes."""
    return parse_parquet(data)


def working_bytes(table: pa.Table, schema: pa.Schema, *, notice: str | None = None) -> bytes:
    """Returns a table as `read_working` reads it. No manifest names files of `work/`, so they have checksums inside."""
    return table_bytes(table, schema, notice=notice, checksums=True)


def read_working(store: Store, name: str) -> pa.Table:
    """Reads a table of `work/`.

    Raises:
      InputError: the file is damaged.
    """
    data = store.read_committed(name)
    with damage_named(name, _AGAIN):
        return parse_parquet(data, page_checksum_verification=True)


def take_working_rows(store: Store, name: str, rows: np.ndarray) -> pa.Table:
    """Returns some rows of a table of `work/`, as `take_rows`. Raises InputError if they are damaged."""
    with store.open(name) as file, damage_named(name, _AGAIN):
        return take_rows(file, rows)


def take_rows(file: BinaryIO, rows: np.ndarray) -> pa.Table:
    """Returns some rows of a Parquet file, in the order given. It reads only the row groups that contain them.

    Args:
      file: a seekable file.
      rows: int64 (n,), positions in the file.
    """
    source = pq.ParquetFile(file, page_checksum_verification=True)  # of files that have them
    sizes = [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    owners = np.searchsorted(starts, rows, side="right") - 1
    groups, where = np.unique(owners, return_inverse=True)
    if not len(groups):
        return source.schema_arrow.empty_table()
    table = source.read_row_groups(groups.tolist())
    read = np.concatenate([[0], np.cumsum(np.array(sizes)[groups])[:-1]])
    return table.take(pa.array(read[where] + rows - starts[owners]))


def replaced(new: pa.Table, made: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yields tables of candidates with new rows in the places of those that have the same candidate_id.

    Args:
      new: whole rows, their ids rising.
      made: tables of the same columns.
    """
    ids = new["candidate_id"].to_numpy()
    for table in made:
        own = table["candidate_id"].to_numpy()
        places, order = np.flatnonzero(np.isin(own, ids)), np.arange(table.num_rows)
        order[places] = table.num_rows + np.arange(len(places))
        rows = new.take(pa.array(np.searchsorted(ids, own[places]))).select(table.column_names)
        yield pa.concat_tables([table, rows.cast(table.schema)]).take(pa.array(order))


def save_array(array: np.ndarray) -> bytes:
    """Returns an array in NumPy's own format, never pickled."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def write_array_head(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Writes the header that `save_array` writes before the numbers of a float32 array."""
    head = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


def load_array(data: bytes | memoryview) -> np.ndarray:
    """Returns the array of `save_array` as a view of the given bytes. It is not copied and cannot be written to."""
    file = io.BytesIO(data[:_LONGEST_HEAD])
    np.lib.format.read_magic(file)
    shape, order, dtype = np.lib.format.read_array_header_1_0(file)
    found: np.ndarray = np.frombuffer(data, dtype=dtype, offset=file.tell()).reshape(shape, order="F" if order else "C")
    return found
