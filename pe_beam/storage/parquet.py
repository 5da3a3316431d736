"""Reads Parquet files of a store by ranges, and only the needed ranges; and Parquet that is in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.store import Folder, Store
from pe_beam.errors import damaged


@contextlib.contextmanager
def parquet_file(place: Store | Folder, name: str, **options: Any) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file while the body runs; `options` are those of `pyarrow.parquet.ParquetFile`."""
    with place.open(name) as source, pq.ParquetFile(source, **options) as file:
        yield file


def buffered(data: bytes) -> pa.BufferReader:
    """Returns a reader of a copy of bytes that is Arrow's own.

    Arrow reads Parquet in threads of its own, which may let go of the bytes last. An object of Python wants the
    interpreter's lock for that. If the process ends just then, the thread does not get it, and the process aborts
    ("terminate called without an active exception") or hangs.
    """
    sink = pa.BufferOutputStream()
    sink.write(data)
    return pa.BufferReader(sink.getvalue())


def parse_parquet(data: bytes, **options: Any) -> pa.Table:
    """Returns the table in Parquet bytes; `options` as in `parquet_file`."""
    with pq.ParquetFile(buffered(data), **options) as file:
        return file.read()


def parse_committed(data: bytes, name: str) -> pa.Table:
    """Returns the table of a file that a run or a stream keeps. Raises InputError, which names it, if it is damaged."""
    with damage_named(name, "put it back as it was"):
        return parse_parquet(data)


@contextlib.contextmanager
def damage_named(name: str, remedy: str) -> Iterator[None]:
    """Raises InputError, with the name of the file and what to do, where the body finds it damaged."""
    try:
        yield
    except (pa.ArrowException, OSError):  # Arrow raises OSError for a page whose checksum is another
        raise damaged(name, remedy) from None


def read_parquet(place: Store | Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a table; `columns`: the columns to read (None: all)."""
    with place.open(name) as source:
        return pq.read_table(source, columns=columns)
