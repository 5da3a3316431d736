"""EmbedRecords: turns private records into labelled vectors, the input of `Vote`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.utils.shared import Shared

from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.votes import Unit
from pe_beam.errors import InputError
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.voting.records import embed_rows, vector_batch

REJECTS = pa.schema([("kind", pa.string()), ("detail", pa.string())])
"""Columns of a reject: why a record is left out. Private."""


class EmbedRecords(beam.PTransform):
    """`PCollection[pa.RecordBatch]` of records -> `PCollection[pa.RecordBatch]` (label, vector[, client]).

    Records have the columns that the embedder reads, `label` (string) if labels are declared, and `client` (string)
    if the unit is CLIENT. A record that cannot be used abstains: it gives no vector, and only `rejects` receives it.

    Args:
      make: makes the embedder, once per process. It is pickled into the graph.
      labels: the declared labels; None: records have no labels.
      unit: the privacy unit. CLIENT needs client ids and passes them on.
      distance: "l2", "cosine" (vectors are normalised) or "inner_product", the same as for the candidates.
      rejects: receives `PCollection[pa.RecordBatch]` of REJECTS, which is private; None: rejects are dropped.
      traces: the store that gets the trace of a failure in `private/errors`; None: only the error's type is reported.

    Raises:
      InputError: the list of labels is empty or contains a label twice.

    >>> import functools
    >>> from pe_beam.modalities.image.codec import encode_png
    >>> from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
    >>> import numpy as np
    >>> pictures = [encode_png(np.full((8, 8), gray, np.uint8)) for gray in (0, 255)]
    >>> records = pa.RecordBatch.from_pydict({"image": [*pictures, b"not a picture"]})
    >>> make = functools.partial(Pixels, PixelsOptions(size=2))
    >>> with beam.Pipeline() as pipeline:
    ...     vectors = pipeline | beam.Create([records]) | EmbedRecords(make)
    ...     _ = vectors | beam.Map(lambda batch: print(batch.num_rows, batch.schema.names))
    2 ['label', 'vector']
    """

    def __init__(
        self,
        make: Callable[[], Embedder],
        *,
        labels: Sequence[str] | None = None,
        unit: Unit | str = Unit.RECORD,
        distance: str = "l2",
        rejects: beam.PTransform | None = None,
        traces: str | None = None,
    ) -> None:
        super().__init__()
        if labels is not None and (not labels or len(set(labels)) != len(labels)):
            raise InputError("EmbedRecords: labels: at least one is wanted, none twice")
        codes: dict[str | None, int] = {label: code for code, label in enumerate(labels or [None])}
        self._fn = _EmbedFn(make, codes, Unit(unit), distance, traces)
        self._rejects = rejects

    def expand(self, records: beam.PCollection) -> beam.PCollection:  # noqa: D102
        found = records | "Embed" >> beam.ParDo(self._fn).with_outputs("rejects", main="vectors")
        if self._rejects is not None:
            _ = found.rejects | "Rejects" >> self._rejects
        return found.vectors


@beam.typehints.with_input_types(pa.RecordBatch)
@beam.typehints.with_output_types(pa.RecordBatch)
class _EmbedFn(PlainFn):
    def __init__(
        self,
        make: Callable[[], Embedder],
        codes: Mapping[str | None, int],
        unit: Unit,
        distance: str,
        traces: str | None,
    ) -> None:
        self._make, self._codes, self._unit, self._distance = make, codes, unit, distance
        self._traces, self._shared = traces, Shared()

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        with guarded(self._traces, "EmbedRecords"):
            embedder = self._shared.acquire(self._make)
            count, by_client = batch.num_rows, self._unit is Unit.CLIENT
            labels = [None] * count if None in self._codes else batch["label"].to_pylist()
            clients = batch["client"].to_pylist() if by_client else [None] * count
            vectors, faults = embed_rows(
                embedder.embed,
                embedder.dimension,
                pa.Table.from_batches([batch]),
                labels,
                clients,
                codes=self._codes,
                by_client=by_client,
                distance=self._distance,
            )
            made = vector_batch(vectors, labels, clients if by_client else None, faults, self._codes)
            rejects = pa.RecordBatch.from_pylist(
                [{"kind": fault.kind, "detail": fault.detail} for _, fault in sorted(faults.items())], REJECTS
            )
        yield made
        if rejects.num_rows:
            yield beam.pvalue.TaggedOutput("rejects", rejects)
