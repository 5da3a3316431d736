"""Batches of a source are joined for embedders that are faster with more rows at a time."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import SourceBatch
from pe_beam.engine import ingest


def _batch(first: int, rows: int) -> SourceBatch:
    places = range(first, first + rows)
    return SourceBatch(
        pa.table({"text": [f"text {i}" for i in places]}),
        [f"label {i}" for i in places],
        [f"client {i}" for i in places],
        [f"file:{i}" for i in places],
        {rows - 1: Fault("odd")},
    )


@pytest.mark.parametrize("most", [1, 4, 9, 100])
def test_rows_keep_their_order_and_their_faults(most: int) -> None:
    joined = list(ingest._joined([_batch(0, 4), _batch(4, 4), _batch(8, 2)], most))
    assert [row for batch in joined for row in batch.rows] == [f"file:{i}" for i in range(10)]
    assert [text for batch in joined for text in batch.payload["text"].to_pylist()] == [f"text {i}" for i in range(10)]
    assert [batch.rows[row] for batch in joined for row in sorted(batch.faults)] == ["file:3", "file:7", "file:9"]
    assert all(len(batch.labels) == len(batch.clients) == batch.payload.num_rows for batch in joined)
    assert [len(batch.rows) for batch in joined] == {1: [4, 4, 2], 4: [4, 4, 2], 9: [8, 2], 100: [10]}[most]


def test_large_records_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "BATCH_BYTES", 50)
    assert len(list(ingest._joined([_batch(0, 4), _batch(4, 4)], 100))) == 2


@pytest.mark.parametrize("dimension", [1, 55, 1023, 1024, 1025, 3000])
def test_the_bytes_of_a_shard_do_not_tell_how_its_rows_came(dimension: int) -> None:
    rows = 700
    numbers = np.random.default_rng(0).random((rows, dimension)).astype(np.float32)
    names = [f"client {i % 7} {'x' * (i * 37 % 5000)}" for i in range(rows)]
    kinds = [("label", pa.int32()), ("vector", pa.list_(pa.float32(), dimension)), ("client", pa.string())]

    def table(first: int, stop: int) -> pa.Table:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers[first:stop].ravel()), dimension)
        labels = pa.array(np.arange(first, stop), pa.int32())
        return pa.table([labels, vectors, pa.array(names[first:stop])], schema=pa.schema(kinds))

    def written(cuts: list[int]) -> bytes:
        sink = io.BytesIO()
        parts = [table(a, b) for a, b in itertools.pairwise(cuts)]
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(sink, pa.schema(kinds), **options) as writer:
            writer.write_table(ingest._whole(parts, dimension), row_group_size=8192)
        return sink.getvalue()

    whole = written([0, rows])
    assert pq.read_table(pa.BufferReader(whole)).equals(table(0, rows))
    assert written([0, 1, 19, 20, 333, 555, rows]) == whole
    assert written([*range(0, rows, 13), rows]) == whole
