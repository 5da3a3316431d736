"""Tables (Tab-PE): declared schema, codec, generator, embedder, metrics, view. NumPy and Arrow; no Beam."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.modalities.tabular.codec import TableContent
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.foreign import adopt
from pe_beam.modalities.tabular.schema import TableSchema, as_schema

__all__ = ["MODALITY", "Column", "TableSchema", "modality_of"]


def modality_of(schema: Any) -> Modality:
    """Returns the modality of tables with these columns."""
    from pe_beam.modalities.tabular.metrics import METRICS, OPTIONS, read_options

    declared = as_schema(schema)
    return Modality(
        name="tabular",
        payload=declared.payload,
        content=TableContent(declared),
        schema_model=TableSchema,
        adopt_schema=adopt,
        with_schema=modality_of,
        metrics=METRICS,
        metric_options=OPTIONS,
        read_metric_options=read_options,
        view=lambda: _view(declared),
    )


def _view(schema: TableSchema) -> View:
    from pe_beam.modalities.tabular.view import TableView

    return TableView(schema)


def _start(asker: Any, seen: Any, data: Any) -> Any:
    from pe_beam.modalities.tabular.start import start

    return start(asker, seen, data)


def _propose(path: Any, **given: Any) -> Any:
    from pe_beam.modalities.tabular.propose import propose_schema

    return propose_schema(path, **given)


MODALITY = Modality(
    name="tabular",
    payload=pa.schema([]),
    schema_model=TableSchema,
    adopt_schema=adopt,
    propose_schema=_propose,
    with_schema=modality_of,
    start=_start,
)
