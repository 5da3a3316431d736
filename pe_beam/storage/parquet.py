"""Reads Parquet files of a store by ranges, and only the needed ranges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.store import Folder, Store


@contextlib.contextmanager
def parquet_file(place: Store | Folder, name: str, **options: Any) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file while the body runs; `options` are those of `pyarrow.parquet.ParquetFile`."""
    with place.open(name) as source, pq.ParquetFile(source, **options) as file:
        yield file


def read_parquet(place: Store | Folder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a table; `columns`: the columns to read (None: all)."""
    with place.open(name) as source:
        return pq.read_table(source, columns=columns)
