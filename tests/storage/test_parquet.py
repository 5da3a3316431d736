"""Parquet in memory is read from memory of Arrow's own, so that its threads never wait for a Python that has ended."""

from __future__ import annotations

import io
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.storage.parquet import buffered, parse_parquet


def test_what_arrows_threads_let_go_of_last_is_none_of_pythons():
    sink = io.BytesIO()
    table = pa.table({"a": [1, 2], "b": ["x", None]}, metadata={"pe_beam": "1"})
    pq.write_table(table, sink)
    data = sink.getvalue()
    before = sys.getrefcount(data)
    reader = buffered(data)
    assert sys.getrefcount(data) == before and reader.read() == data
    found = parse_parquet(data)
    assert found.equals(table) and found.schema.metadata[b"pe_beam"] == b"1"
