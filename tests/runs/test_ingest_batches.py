"""Batches of a source are joined for embedders that are faster with more rows at a time."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pe_beam.modalities.base import Fault
from pe_beam.runs import ingest
from pe_beam.sources.base import SourceBatch


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
