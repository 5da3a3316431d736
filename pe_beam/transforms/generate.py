"""Generate: turns rows of a selection into candidates, with one call of the generator per batch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics

from pe_beam.contracts.steps import GenerateHandle
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.spread import Spread

# Runners show Beam metrics, so metrics may count only public things. Generators see candidates only, which are public.
# Votes, records and the times of private stages are never metrics (DESIGN, privacy rule 7).
_GENERATOR_CALLS = Metrics.counter("pe_beam", "generator_calls")
_CHUNK_MILLISECONDS = Metrics.distribution("pe_beam", "generated_chunk_milliseconds")


class Generate(beam.PTransform):
    """`PCollection[pa.RecordBatch]` of a selection's rows -> `PCollection[pa.RecordBatch]`, one for each batch.

    Batches are first spread over the workers. A batch without rows passes through unchanged: no candidate is made.

    Args:
      handle: makes the candidates of a batch and returns them, or commits them and returns a receipt.
      traces: the store that gets the trace of a failure in `private/errors`; None: only the error's type is reported.

    >>> class Echo(GenerateHandle):
    ...     def generate(self, rows):
    ...         names = [f"a variation of {parent}" for parent in rows["parent_id"].to_pylist()]
    ...         return rows.append_column("text", pa.array(names))
    >>> rows = pa.RecordBatch.from_pydict({"candidate_id": [7, 8], "parent_id": [1, 1]})
    >>> with beam.Pipeline() as pipeline:
    ...     made = pipeline | beam.Create([rows]) | Generate(Echo())
    ...     _ = made | beam.Map(lambda batch: print(batch["text"].to_pylist()))
    ['a variation of 1', 'a variation of 1']
    """

    def __init__(self, handle: GenerateHandle, *, traces: str | None = None) -> None:
        super().__init__()
        self._about = handle, traces

    def expand(self, rows: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return rows | "SpreadChunks" >> Spread() | "Generate" >> beam.ParDo(_GenerateFn(*self._about))


@beam.typehints.with_input_types(pa.RecordBatch)
@beam.typehints.with_output_types(pa.RecordBatch)
class _GenerateFn(PlainFn):
    def __init__(self, handle: GenerateHandle, traces: str | None) -> None:
        self._handle, self._traces = handle, traces

    def process(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        made, began = rows, time.monotonic()
        with guarded(self._traces, "Generate"):
            if rows.num_rows:
                made = self._handle.generate(rows)
        _GENERATOR_CALLS.inc(made.num_rows)
        if made.num_rows:
            _CHUNK_MILLISECONDS.update(int(1000 * (time.monotonic() - began)))
        yield made
