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
from pe_beam.engine import ingest, shards
from pe_beam.voting.records import vector_batch
from pe_beam.voting.votes import read_batch


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
    joined = list(ingest.joined([_batch(0, 4), _batch(4, 4), _batch(8, 2)], most))
    assert [row for batch in joined for row in batch.rows] == [f"file:{i}" for i in range(10)]
    assert [text for batch in joined for text in batch.payload["text"].to_pylist()] == [f"text {i}" for i in range(10)]
    assert [batch.rows[row] for batch in joined for row in sorted(batch.faults)] == ["file:3", "file:7", "file:9"]
    assert all(len(batch.labels) == len(batch.clients) == batch.payload.num_rows for batch in joined)
    assert [len(batch.rows) for batch in joined] == {1: [4, 4, 2], 4: [4, 4, 2], 9: [8, 2], 100: [10]}[most]


def test_large_records_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "BATCH_BYTES", 50)
    assert len(list(ingest.joined([_batch(0, 4), _batch(4, 4)], 100))) == 2


@pytest.mark.parametrize("dimension", [1, 55, 1023, 1024, 1025, 3000])
def test_the_bytes_of_a_shard_do_not_tell_how_its_rows_came(dimension: int) -> None:
    rows = 700
    numbers = np.random.default_rng(0).random((rows, dimension)).astype(np.float32)
    names = [f"client {i % 7} {'x' * (i * 37 % 5000)}" for i in range(rows)]
    schema = shards.shard_schema(dimension, by_client=True)

    def batch(first: int, stop: int) -> pa.RecordBatch:
        return vector_batch(numbers[first:stop], [None] * (stop - first), names[first:stop], {}, {None: 7})

    def written(cuts: list[int]) -> bytes:
        sink = io.BytesIO()
        parts = [shards.packed(batch(a, b)) for a, b in itertools.pairwise(cuts)]
        with shards.shard_writer(sink, schema) as writer:
            writer.write_table(pa.Table.from_batches(parts, schema=schema), row_group_size=8192)
        return sink.getvalue()

    whole = written([0, rows])
    kept = pq.ParquetFile(pa.BufferReader(whole))
    assert shards.dimension_of(kept.schema_arrow) == dimension
    assert shards.listed(kept.read()).equals(pa.Table.from_batches([batch(0, rows)]))
    assert written([0, 1, 19, 20, 333, 555, rows]) == whole
    assert written([*range(0, rows, 13), rows]) == whole


def test_vectors_are_lists_again_whatever_slice_they_are_in_and_those_of_older_shards_as_they_are() -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(8, 3)
    lists = vector_batch(numbers, [None] * 8, None, {}, {None: 0})
    kept = shards.packed(lists)
    assert kept.schema.equals(shards.shard_schema(3, by_client=False))
    assert read_batch(shards.listed(kept.slice(2, 5)))[0].tolist() == numbers[2:7].tolist()
    assert read_batch(shards.listed(shards.packed(lists.slice(3, 2))))[0].tolist() == numbers[3:5].tolist()
    assert shards.listed(lists) is lists and shards.dimension_of(lists.schema) == 3
    for empty in (kept.slice(0, 0), pa.RecordBatch.from_pylist([], kept.schema), kept.schema.empty_table()):
        assert read_batch(shards.listed(empty))[0].shape == (0, 3)
    lost = pa.record_batch([pa.array([0], pa.int32()), pa.array([None], pa.binary(12))], ["label", "vector"])
    with pytest.raises(ValueError, match="nulls are not allowed"):
        shards.listed(lost)
