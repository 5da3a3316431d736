"""Spread: the same elements, in new bundles, with a barrier and a small graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from pe_beam.transforms.spread import Spread


@pytest.mark.parametrize("elements", [["a"], ["b", "a", "a"], [(1, "x"), (1, "y")], [None, 3], list(range(1000))])
def test_it_gives_the_same_elements(elements: list[Any]) -> None:
    with beam.Pipeline() as pipeline:
        assert_that(pipeline | beam.Create(elements) | Spread(), equal_to(elements))


def test_arrow_batches_pass() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2]})
    with beam.Pipeline() as pipeline:
        found = pipeline | beam.Create([batch, batch]) | Spread()
        assert found.element_type == pa.RecordBatch
        assert_that(found | beam.Map(lambda each: each.to_pydict()), equal_to([batch.to_pydict()] * 2))


class _Write(beam.DoFn):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def process(self, element: int) -> Iterator[int]:
        (self._folder / str(element)).touch()
        yield element


class _CountWritten(_Write):
    def process(self, _: int) -> Iterator[int]:
        yield len(list(self._folder.iterdir()))


def test_it_is_a_barrier(tmp_path: Path) -> None:
    with beam.Pipeline() as pipeline:
        written = pipeline | beam.Create(range(20)) | beam.ParDo(_Write(tmp_path)) | Spread()
        assert_that(written | beam.ParDo(_CountWritten(tmp_path)), equal_to([20] * 20))


def test_windows_and_timestamps_of_others_survive() -> None:
    with beam.Pipeline() as pipeline:
        found = (
            pipeline
            | beam.Create([1, 2, 3])
            | beam.Map(lambda each: TimestampedValue(each, each * 10))
            | beam.WindowInto(FixedWindows(20))
            | Spread()
            | beam.Map(lambda each, at=beam.DoFn.TimestampParam: (each, int(at)))
        )
        assert_that(found, equal_to([(1, 10), (2, 20), (3, 30)]))


def test_its_graph_is_a_third_of_beams() -> None:
    def size(step: beam.PTransform) -> int:
        pipeline = beam.Pipeline()
        _ = pipeline | beam.Create([0]) | step
        return pipeline.to_runner_api().ByteSize()

    assert size(Spread()) - size(beam.Map(str)) < (size(beam.Reshuffle()) - size(beam.Map(str))) / 2
