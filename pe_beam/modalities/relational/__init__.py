"""Two tables, parents and their children: declared schema, codec, generator, embedder, metrics, view. No Beam.

A record is a client: its row of the parent table with all its rows of the child table. Rows are handled as `tabular`
handles them.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.modalities.relational.codec import RelationalContent, both_tables
from pe_beam.modalities.relational.schema import RelationalSchema, as_schema

__all__ = ["MODALITY", "RelationalSchema", "modality_of"]


def modality_of(schema: Any) -> Modality:
    """Returns the modality of families with these columns."""
    from pe_beam.modalities.relational.metrics import METRICS

    declared = as_schema(schema)
    return Modality(
        name="relational",
        payload=declared.payload,
        content=RelationalContent(declared),
        schema_model=RelationalSchema,
        with_schema=modality_of,
        unfold=lambda samples, _: both_tables(samples, declared),
        metrics=METRICS,
        view=lambda: _view(declared),
        by_client=True,
        votes_by_record=True,
        by_tables=True,
    )


def _view(schema: RelationalSchema) -> View:
    from pe_beam.modalities.relational.view import FamilyView

    return FamilyView(schema)


def _start(asker: Any, seen: Any, data: Any) -> Any:
    from pe_beam.modalities.relational.start import start

    return start(asker, seen, data)


MODALITY = Modality(
    name="relational",
    payload=pa.schema([]),
    schema_model=RelationalSchema,
    with_schema=modality_of,
    by_client=True,
    votes_by_record=True,
    by_tables=True,
    start=_start,
)
