"""Select: turns a noisy histogram into the rows of the next population."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa

from pe_beam.contracts.steps import SelectHandle
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn


class Select(beam.PTransform):
    """`PCollection[pa.Table]` of one histogram -> `PCollection[pa.RecordBatch]` of a selection's rows.

    Args:
      handle: makes the selection.
      traces: the store that gets the trace of a failure in `private/errors`; None: only the error's type is reported.

    >>> from pe_beam.contracts.steps import SELECTION
    >>> class Best(SelectHandle):
    ...     def select(self, histogram):
    ...         best = max(histogram.to_pylist(), key=lambda row: row["noisy_votes"])["candidate_id"]
    ...         row = {"candidate_id": 7, "parent_id": best, "parent_row": best, "label": None, "kept": False}
    ...         yield pa.RecordBatch.from_pylist([row], SELECTION)
    >>> histogram = pa.table({"candidate_id": [0, 1], "label": [None, None], "noisy_votes": [1.5, 8.25]})
    >>> with beam.Pipeline() as pipeline:
    ...     rows = pipeline | beam.Create([histogram]) | Select(Best())
    ...     _ = rows | beam.Map(lambda batch: print(batch["parent_id"].to_pylist()))
    [1]
    """

    def __init__(self, handle: SelectHandle, *, traces: str | None = None) -> None:
        super().__init__()
        self._about = handle, traces

    def expand(self, histograms: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return histograms | "Select" >> beam.ParDo(_SelectFn(*self._about))


@beam.typehints.with_input_types(pa.Table)
@beam.typehints.with_output_types(pa.RecordBatch)
class _SelectFn(PlainFn):
    def __init__(self, handle: SelectHandle, traces: str | None) -> None:
        self._handle, self._traces = handle, traces

    def process(self, histogram: pa.Table) -> Iterator[pa.RecordBatch]:
        with guarded(self._traces, "Select"):
            batches = list(self._handle.select(histogram))
        yield from batches
