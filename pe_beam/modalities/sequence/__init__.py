"""Event sequences by client: declared kinds, gaps and length, generator, embedder, metrics, view. No Beam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.modalities.sequence.events import SequenceContent
from pe_beam.modalities.sequence.schema import EVENTS, SequenceSchema, as_schema

__all__ = ["MODALITY", "SequenceSchema", "modality_of"]


def modality_of(schema: Any) -> Modality:
    """Returns the modality of sequences of these kinds of events."""
    from pe_beam.modalities.sequence.metrics import METRICS

    declared = as_schema(schema)
    return Modality(
        name="sequence",
        payload=declared.payload,
        content=SequenceContent(declared),
        schema_model=SequenceSchema,
        with_schema=modality_of,
        metrics=METRICS,
        view=lambda: _view(declared),
        unfold=lambda samples, columns: _unfold(samples, columns, declared),
        by_client=True,
    )


def _view(schema: SequenceSchema) -> View:
    from pe_beam.modalities.sequence.view import SequenceView

    return SequenceView(schema)


def _unfold(samples: pa.Table, columns: Mapping[str, Any], schema: SequenceSchema) -> Mapping[str, pa.Table]:
    from pe_beam.modalities.sequence.rows import unfold

    return {EVENTS: unfold(samples, columns, schema)}


def _start(asker: Any, seen: Any, data: Any) -> Any:
    from pe_beam.modalities.sequence.start import start

    return start(asker, seen, data)


MODALITY = Modality(
    name="sequence",
    payload=pa.schema([]),
    schema_model=SequenceSchema,
    with_schema=modality_of,
    by_client=True,
    start=_start,
)
